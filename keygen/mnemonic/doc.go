// Package mnemonic makes and reads BIP-39 mnemonics in the ten languages of
// the standard, and stretches them into seeds.
//
// It promises that New draws 256 bits from crypto/rand and nothing else; that
// what Parse accepts has a valid checksum and comes out of Text in the one
// spelling of the official list, so that every other BIP-39 tool derives the
// same seed from it; and that no error holds any part of the input, only
// positions, counts and names of languages. It trusts crypto/rand, the
// SHA-2 of the standard library, the decomposition tables of x/text, and the
// embedded word lists, whose digests a test pins.
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
// marks of Japanese make other letters and must be there.
//
// # What stays in memory
//
// Words, entropy, word numbers, hash states and seeds live in heap buffers
// that the package allocates once at their final size and wipes before it
// returns, on errors too. Nothing is ever converted to a string, put into a
// map, or grown by append (which would leave the shorter copy behind). For
// this reason the package walks the decomposition tables itself instead of
// calling norm.Append, whose scratch buffer cannot be reached, and runs HMAC
// and PBKDF2 (RFC 2104, RFC 8018) over crypto/sha512 itself: crypto/pbkdf2
// takes the password as a string and copies it, and HMAC keeps the padded
// key, which for a text of up to 128 bytes is the words under a fixed XOR, in
// memory that only the garbage collector gets. What remains after a call:
//
//   - what the caller holds: the text given to Parse, the secrets that New,
//     Text and Seed return, and the Phrase until its Wipe. What a reader of
//     files or terminals kept of the text before it came here is the caller's
//     too;
//   - on the goroutine's stack, until other calls overwrite it: single runes
//     and word numbers, and what SHA-2 keeps of its last blocks. The copy of a
//     hash state that Sum makes there is covered, by one more Sum over zeros
//     from the same frame. That rests on how today's compiler lays out
//     frames: a test that searches the whole process shows it, the language
//     does not promise it;
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
