package eth

import "sync"

// KnownBad says whether a must never receive a stake, and why: nobody holds
// its key, or everybody does. The list catches placeholders that were never
// replaced; it is no judgement of any address that is not on it.
func KnownBad(a Address) (reason string, bad bool) {
	if a == (Address{}) {
		return "the zero address: whatever it receives is lost", true
	}
	if [19]byte(a[:19]) == ([19]byte{}) {
		return "a precompile's address (0x00..01 to 0x00..ff): whatever it receives is lost", true
	}
	reason, bad = knownBad()[a]
	return reason, bad
}

var knownBad = sync.OnceValue(func() map[Address]string {
	m := make(map[Address]string)
	for _, list := range badLists {
		for _, digits := range list.digits {
			m[Address(unhex(digits))] = list.reason
		}
	}
	for _, n := range networks() {
		if n.DepositContract != (Address{}) {
			m[n.DepositContract] = "a deposit contract: withdrawals sent there are lost"
		}
	}
	return m
})

// badLists holds the digits with their EIP-55 checksum, which a test demands:
// it finds a slip of the pen in this table.
var badLists = []struct {
	reason string
	digits []string
}{
	{"a burn address: whatever it receives is lost", []string{
		"000000000000000000000000000000000000dEaD",
		"dEAD000000000000000042069420694206942069",
		"00000000000000000000000000000000DeaDBeef",
		"DeaDbeefdEAdbeefdEadbEEFdeadbeEFdEaDbeeF",
		"FFfFfFffFFfffFFfFFfFFFFFffFFFffffFfFFFfF",
		"1111111111111111111111111111111111111111",
	}},
	{"a protocol placeholder without an owner", []string{
		"EeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE", // "native coin" in token interfaces
		"ffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE", // the sender of system calls
		"1234567890123456789012345678901234567890",
	}},
	{"a system contract of the protocol: withdrawals sent there are lost", []string{
		"0000bFF46984e3725691FA540a8C7589300D8282", // builder deposits (EIP-8282)
		"000064D678505ad48F8cCb093BC65613800E8282", // builder exits (EIP-8282)
		"00000961Ef480Eb55e80D19ad83579A64c007002", // withdrawal requests (EIP-7002)
		"0000BBdDc7CE488642fb579F8B00f3a590007251", // consolidations (EIP-7251)
		"000F3df6D732807Ef1319fB7B8bB8522d0Beac02", // beacon roots (EIP-4788)
		"0000F90827F1C53a10cb7A02335B175320002935", // block hashes (EIP-2935)
		"4242424242424242424242424242424242424242", // the deposit contract of many test networks
	}},
	{"an example address from public documentation", []string{
		"71C7656EC7ab88b098defB751B7401B5f6d8976F",
		"742d35Cc6634C0532925a3b844Bc454e4438f44e",
		"d8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
		"5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", // EIP-55's own examples
		"fB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"dbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
		"D1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	}},
	{"a developer tool's default account, whose private key is public", []string{
		// "test test ... junk" (Hardhat, Anvil)
		"f39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
		"70997970C51812dc3A010C7d01b50e0d17dc79C8",
		"3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
		"90F79bf6EB2c4f870365E785982E1f101E93b906",
		"15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
		"9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
		"976EA74026E726554dB657fA54763abd0C3a0aa9",
		"14dC79964da2C08b23698B3D3cc7Ca32193d9955",
		"23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",
		"a0Ee7A142d267C1f36714E4a8F75612F20a79720",
		// "myth like bonus ..." (Ganache --deterministic)
		"90F8bf6A479f320ead074411a4B0e7944Ea8c9C1",
		"FFcf8FDEE72ac11b5c542428B35EEF5769C409f0",
		// private keys 1 and 2
		"7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
		"2B5AD5c4795c026514f8317c7a215E218DcCD6cF",
	}},
}
