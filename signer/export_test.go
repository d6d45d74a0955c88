package signer

const SmallBodies = smallOnes
