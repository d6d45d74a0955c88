package eth

import "encoding/hex"

// networks builds the table anew on each call, so that no caller can change
// it for another.
func networks() []Network {
	const (
		ether = gweiPerEther
		// the deposit contract of mainnet, which later networks reuse
		contract = "00000000219ab540356cBB839Cbe05303d7705Fa"
	)
	return []Network{
		{
			Name:                     "mainnet",
			GenesisForkVersion:       Version{0x00, 0x00, 0x00, 0x00},
			ExitForkVersion:          Version{0x03, 0x00, 0x00, 0x00},
			GenesisValidatorsRoot:    Root(unhex("4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95")),
			HasGenesisValidatorsRoot: true,
			Multiplier:               1,
			MinActivation:            32 * ether,
			MinDeposit:               ether,
			DepositContract:          Address(unhex(contract)),
			ChainID:                  1,
			GenesisTime:              1606824023,
			SecondsPerSlot:           12,
			SlotsPerEpoch:            32,
			Mainnet:                  true,
		},
		{
			Name:                     "sepolia",
			GenesisForkVersion:       Version{0x90, 0x00, 0x00, 0x69},
			ExitForkVersion:          Version{0x90, 0x00, 0x00, 0x72},
			GenesisValidatorsRoot:    Root(unhex("d8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078")),
			HasGenesisValidatorsRoot: true,
			Multiplier:               1,
			MinActivation:            32 * ether,
			MinDeposit:               ether,
			DepositContract:          Address(unhex("7f02C3E3c98b133055B8B348B2Ac625669Ed295D")),
			ChainID:                  11155111,
			GenesisTime:              1655733600,
			SecondsPerSlot:           12,
			SlotsPerEpoch:            32,
		},
		{
			Name:                     "hoodi",
			GenesisForkVersion:       Version{0x10, 0x00, 0x09, 0x10},
			ExitForkVersion:          Version{0x40, 0x00, 0x09, 0x10},
			GenesisValidatorsRoot:    Root(unhex("212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f")),
			HasGenesisValidatorsRoot: true,
			Multiplier:               1,
			MinActivation:            32 * ether,
			MinDeposit:               ether,
			DepositContract:          Address(unhex(contract)),
			ChainID:                  560048,
			GenesisTime:              1742213400,
			SecondsPerSlot:           12,
			SlotsPerEpoch:            32,
		},
		{
			Name:                     "plataberget",
			GenesisForkVersion:       Version{0x10, 0x73, 0x31, 0x83},
			ExitForkVersion:          Version{0x40, 0x73, 0x31, 0x83},
			GenesisValidatorsRoot:    Root(unhex("bb4a1a9e3f7f4e10edcd734e4acc3b5ffd4f830efe0af2748fa458cfee5d2658")),
			HasGenesisValidatorsRoot: true,
			Multiplier:               1,
			MinActivation:            32 * ether,
			MinDeposit:               ether,
			DepositContract:          Address(unhex(contract)),
			ChainID:                  7091047534,
			GenesisTime:              1786622400,
			SecondsPerSlot:           12,
			SlotsPerEpoch:            32,
		},
		{
			// Reset every few weeks: neither a genesis validators root nor a
			// genesis time that lasts.
			Name:               "ephemery",
			GenesisForkVersion: Version{0x10, 0x00, 0x10, 0x1b},
			ExitForkVersion:    Version{0x40, 0x00, 0x10, 0x1b},
			Multiplier:         1,
			MinActivation:      32 * ether,
			MinDeposit:         ether,
		},
		{
			Name:                     "gnosis",
			GenesisForkVersion:       Version{0x00, 0x00, 0x00, 0x64},
			ExitForkVersion:          Version{0x03, 0x00, 0x00, 0x64},
			GenesisValidatorsRoot:    Root(unhex("f5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47")),
			HasGenesisValidatorsRoot: true,
			Multiplier:               32,
			MinActivation:            32 * ether, // 1 GNO
			MinDeposit:               ether,      // 0.03125 GNO
			DepositContract:          Address(unhex("0B98057eA310F4d31F2a452B414647007d1645d9")),
			ChainID:                  100,
			GenesisTime:              1638993340,
			SecondsPerSlot:           5,
			SlotsPerEpoch:            16,
			Mainnet:                  true,
		},
		{
			Name:                     "chiado",
			GenesisForkVersion:       Version{0x00, 0x00, 0x00, 0x6f},
			ExitForkVersion:          Version{0x03, 0x00, 0x00, 0x6f},
			GenesisValidatorsRoot:    Root(unhex("9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e")),
			HasGenesisValidatorsRoot: true,
			Multiplier:               32,
			MinActivation:            32 * ether,
			MinDeposit:               ether,
			DepositContract:          Address(unhex("b97036A26259B7147018913bD58a774cf91acf25")),
			ChainID:                  10200,
			GenesisTime:              1665396300,
			SecondsPerSlot:           5,
			SlotsPerEpoch:            16,
		},
	}
}

// unhex is for the literals of this package only.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("eth: bad literal " + s)
	}
	return b
}
