package main

import "time"

// priced is the day on which the prices were looked up, for us-east-1, in US
// dollars and without free tiers. Look again before you publish a figure.
var priced = time.Date(2026, time.November, 22, 0, 0, 0, 0, time.UTC)

// Prices of what is paid for by use.
const (
	lambdaX86     = 0.0000166667 // a GB-second on x86-64
	lambdaARM     = 0.0000133334 // on arm64
	lambdaRequest = 0.20 / 1e6

	kmsSymmetric  = 0.03 / 1e4 // a request
	kmsAsymmetric = 0.15 / 1e4 // Sign, GetPublicKey

	tableWrite = 0.625 / 1e6 // a write of 1 KB, begun
	tableRead  = 0.125 / 1e6 // a strongly consistent read of 4 KB, begun

	bucketPut = 0.005 / 1e3
	bucketGet = 0.0004 / 1e3

	logGB = 0.50 // taken in
)

// Prices of what is paid for by the month.
const (
	kmsKey       = 1.00
	interfaceHub = 0.01 * 24 * 365 / 12 // an interface endpoint, in each zone
	tableGB      = 0.25
	bucketGB     = 0.023
)

// vCPU is how much memory, in MB, comes with one processor on Lambda.
const vCPU = 1769
