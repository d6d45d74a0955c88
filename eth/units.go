package eth

// Gwei is an amount in gwei (1e-9 of the network's unit). Maximum of a
// deposit: 2048e9 (EIP-7251). Gnosis amounts stand after the multiplier of
// 32, as in deposit files.
type Gwei uint64
