// Package mnemonic makes and reads BIP-39 mnemonics in the ten languages of
// the standard, and stretches them into seeds.
//
// It promises that New draws 256 bits from crypto/rand and nothing else; that
// what Parse accepts has a valid checksum and comes out of Text in the one
// spelling of the official list, so that every other BIP-39 tool derives the
// same seed from it; and that no error holds any part of the input, only
// positions, counts and names of languages. It trusts crypto/rand,
// crypto/sha256 and crypto/pbkdf2 of the standard library, the NFKD of x/text,
// and the embedded word lists, whose digests a test pins.
//
// # What is accepted
//
// 12, 15, 18, 21 or 24 words, separated by any Unicode white space (U+3000
// too), in upper or lower case, composed or decomposed, with a byte order
// mark in front or without. A word may be shortened to its first four letters
// or more where the list tells all words apart by four: English, Japanese,
// Spanish, French, Italian, Czech and Portuguese, not Korean or Chinese. A
// letter is a base character with its marks. A whole word wins over longer
// words that begin with it. French and Spanish words may leave accents out,
// as the standard says of both lists, and a wrong accent is refused; the
// marks of Japanese make other letters and must be there. A word with more
// than 30 marks in a row is in no list, and a passphrase with as many is
// refused: x/text normalises it as no other tool does.
//
// # What stays in memory
//
// Words, entropy, word numbers, normalised forms and salts live in heap
// buffers that the package allocates once at their final size and wipes before
// it returns, on errors too. None is put into a map, or grown by append (which
// would leave the shorter copy behind), the one string shares the buffer of
// the words, and the seed is handed on in the buffer of crypto/pbkdf2. A test
// searches the whole process for what is left.
//
// The libraries do not wipe, and are used all the same: cryptography of our
// own would be the greater risk. What they leave is in memory that only the
// garbage collector gets, until something else is written there:
//
//   - Seed: crypto/pbkdf2 copies the words once, and HMAC keeps them under a
//     fixed XOR (of a text over 128 bytes, its SHA-512 instead) and as two
//     hash states. Each of these is enough for the seed of any passphrase.
//     Where the words must not outlast their use, let the process end;
//   - Parse and Seed: x/text takes letters apart in a buffer that holds on to
//     the last ones, of each word that was not typed in NFKD already, and of
//     the passphrase. For a Korean word typed composed that is its last
//     syllable, for an ASCII word nothing;
//   - New and Parse: crypto/sha256 copies the entropy to the goroutine's
//     stack, which later calls overwrite. When the stack grows or its
//     goroutine ends, it becomes free memory as it is.
//
// What else remains after a call:
//
//   - what the caller holds: the text given to Parse, the secrets that New,
//     Text and Seed return, and the Phrase until its Wipe. What a reader of
//     files or terminals kept of the text before it came here is the caller's
//     too;
//   - single runes and word numbers on the goroutine's stack;
//   - in the wide registers: up to some tens of bytes at the end of what was
//     copied last (Text copies the words), until the next copy. A goroutine
//     that is preempted at that moment has its registers saved to its stack,
//     and the test, which turns that off, does not see it;
//   - in the seed's run: the last of the 2048 intermediate values, of which
//     the seed is the sum, and which alone tells nothing;
//   - whatever the kernel did with the pages (swap, core dumps, hibernation):
//     the program that calls turns these off.
//
// # Timing
//
// Looking a word up takes a time that depends on the word, and so do reading
// the lists and splitting the text. That is on purpose: a mnemonic is made or
// typed in once, by its owner, in a process that answers no requests about
// it, so nobody can repeat the measurement that a timing or cache attack
// needs, and who can watch this process's memory accesses can as well read
// its memory. Do not call Parse on behalf of a remote party who can try again
// and again.
package mnemonic
