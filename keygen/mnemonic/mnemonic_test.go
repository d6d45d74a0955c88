package mnemonic

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/stakeseal/stakeseal/secret"
)

type vector struct{ entropy, text, seed string }

// vectors reads one file of public vectors (passphrase TREZOR).
func vectors(t *testing.T, name string) map[Language][]vector {
	t.Helper()
	dir := os.Getenv("STAKESEAL_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	data, err := os.ReadFile(filepath.Join(dir, "bip39", name))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the public vectors are missing: %v", err)
		}
		t.Skipf("the public vectors are missing, set STAKESEAL_VECTORS: %v", err)
	}
	var all map[Language][][]string
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	out := map[Language][]vector{}
	for language, list := range all {
		for _, v := range list {
			out[language] = append(out[language], vector{v[0], v[1], v[2]})
		}
	}
	return out
}

func text(s string) *secret.Bytes { return secret.Copy([]byte(s)) }

func TestVectors(t *testing.T) {
	for name, want := range map[string]int{"mnemonic.json": 9, "trezor.json": 10} {
		t.Run(name, func(t *testing.T) {
			all := vectors(t, name)
			seen := 0
			for _, language := range Languages() {
				if len(all[language]) == 0 {
					continue
				}
				seen++
				for i, v := range all[language] {
					check(t, fmt.Sprintf("%s %d", language, i), language, v, "TREZOR")
				}
			}
			if seen != want {
				t.Errorf("%d languages in the file, want %d", seen, want)
			}
		})
	}
}

func check(t *testing.T, name string, language Language, v vector, passphrase string) {
	t.Helper()
	entropy, err := hex.DecodeString(v.entropy)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lookup(language)
	if err != nil {
		t.Fatal(err)
	}
	want := norm.NFKD.String(v.text) // U+3000 becomes a space
	if got := string(l.compose(entropy).Expose()); got != want {
		t.Errorf("%s: composed %q, want %q", name, got, want)
	}
	for _, named := range []Language{language, ""} {
		p, err := Parse(text(v.text), named)
		if err != nil {
			// The two Chinese lists share the words of some vectors.
			if ambiguous := (*AmbiguousError)(nil); named == "" && errors.As(err, &ambiguous) &&
				slices.Equal(ambiguous.Languages, []Language{ChineseSimplified, ChineseTraditional}) {
				continue
			}
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := string(p.Text().Expose()); got != want {
			t.Errorf("%s: read %q, want %q", name, got, want)
		}
		if p.Language() != language || p.Words() != len(strings.Fields(v.text)) {
			t.Errorf("%s: %s, %d words", name, p.Language(), p.Words())
		}
		if got := hex.EncodeToString(p.Seed(text(passphrase)).Expose()); got != v.seed {
			t.Errorf("%s: seed %s, want %s", name, got, v.seed)
		}
	}
}

// One vector of each kind that the tests have even without the files: English
// (BIP-39), and Japanese with ideographic spaces and a passphrase that
// changes under NFKD (from the Japanese vectors that BIP-39 links to).
func TestKnownAnswers(t *testing.T) {
	check(t, "english", English, vector{
		"00000000000000000000000000000000",
		"abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
		"c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
	}, "TREZOR")
	check(t, "japanese", Japanese, vector{
		"00000000000000000000000000000000",
		"あいこくしん　あいこくしん　あいこくしん　あいこくしん　あいこくしん　あいこくしん　あいこくしん　あいこくしん　あいこくしん　あいこくしん　あいこくしん　あおぞら",
		"a262d6fb6122ecf45be09c50492b31f92e9beb7d9a845987a02cefda57a15f9c467a17872029a9e92299b5cbdf306e3a0ee620245cbd508959b6cb7ca637bd55",
	}, "㍍ガバヴァぱばぐゞちぢ十人十色")
}

func TestNew(t *testing.T) {
	for _, language := range Languages() {
		seen := map[string]bool{}
		for range 20 {
			m, err := New(language)
			if err != nil {
				t.Fatal(err)
			}
			s := string(m.Expose())
			if seen[s] || !norm.NFKD.IsNormalString(s) || len(strings.Split(s, " ")) != 24 || len(strings.Fields(s)) != 24 {
				t.Fatalf("%s: not 24 fresh words in NFKD: %q", language, s)
			}
			seen[s] = true
			p, err := Parse(m, language)
			if err != nil || !p.Text().Equal(m) || p.Words() != 24 || p.Language() != language {
				t.Fatalf("%s: %q is not read back: %v", language, s, err)
			}
		}
	}
	for _, language := range []Language{"", "klingon", "English"} {
		if _, err := New(language); !errors.Is(err, ErrLanguage) {
			t.Errorf("%q: %v", language, err)
		}
	}
}

// Every length, every language, and all of 11 bits: what is composed is read.
func TestLengths(t *testing.T) {
	for _, l := range lists {
		l.load()
		for size := 16; size <= 32; size += 4 {
			for range 20 {
				m := l.compose(secret.Random(size).Expose())
				p, err := Parse(m, l.language)
				if err != nil || !p.Text().Equal(m) || p.Words() != size*3/4 {
					t.Fatalf("%s, %d bytes: %v", l.language, size, err)
				}
			}
		}
	}
}

// Each of the last word's checksum bits counts: whatever the words before it,
// exactly one in 2^(words/3) last words is right.
func TestEveryChecksumBit(t *testing.T) {
	w := newWorkspace()
	for words := 12; words <= maxWords; words += 3 {
		for round := range int16(4) {
			numbers := w.number[0][:words]
			for i := range numbers {
				numbers[i] = (int16(i)*389 + round*1021) % listWords
			}
			valid := 0
			for last := range int16(listWords) {
				numbers[words-1] = last
				if w.checks(numbers) {
					valid++
				}
			}
			if want := listWords >> (words / 3); valid != want {
				t.Errorf("%d words: %d last words are right, want %d", words, valid, want)
			}
		}
	}
}

const legal = "legal winner thank year wave sausage worth useful legal winner thank yellow"

func TestSpellings(t *testing.T) {
	for name, c := range map[string]struct {
		language Language
		in, want string
	}{
		"plain":           {"", legal, legal},
		"capitals":        {"", strings.ToUpper(legal), legal},
		"mixed case":      {"", strings.ReplaceAll(legal, "w", "W"), legal},
		"abbreviated":     {"", "lega winn than year wave saus wort usef lega winn than yell", legal},
		"half":            {"", "legal winne than year wave sausa worth usefu legal winner thank yello", legal},
		"white space":     {"", "\t\n " + strings.ReplaceAll(legal, " ", " \r\n\u3000\u00a0\u2003\v\f\u0085\u2028") + " \n", legal},
		"ideographic":     {"", strings.ReplaceAll(legal, " ", "\u3000"), legal},
		"byte order mark": {"", "\ufeff" + legal, legal},
		"full width":      {"", "ｌｅｇａｌ" + legal[5:], legal},
		"mathematical":    {"", "𝐥𝐞𝐠𝐚𝐥" + legal[5:], legal}, // four bytes for one
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse(text(c.in), c.language)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(p.Text().Expose()); got != c.want || p.Language() != English {
				t.Errorf("read %q as %s", got, p.Language())
			}
		})
	}
}

func TestErrors(t *testing.T) {
	words := strings.Fields(legal)
	with := func(change map[int]string) string {
		w := slices.Clone(words)
		for i, s := range change {
			w[i-1] = s
		}
		return strings.Join(w, " ")
	}
	for name, c := range map[string]struct {
		language Language
		in       string
		is       error
		says     string
	}{
		"language":      {"klingon", legal, ErrLanguage, "unknown mnemonic language: it is one of english, japanese, korean, spanish, chinese_simplified, chinese_traditional, french, italian, czech, portuguese"},
		"words as name": {Language(legal), legal, ErrLanguage, "unknown mnemonic language: it is one of english, japanese, korean, spanish, chinese_simplified, chinese_traditional, french, italian, czech, portuguese"},
		"encoding":      {"", legal + "\xff", ErrEncoding, "text is not valid UTF-8"},
		"surrogate":     {"", legal + " \xed\xa0\x80", ErrEncoding, "text is not valid UTF-8"},
		"empty":         {"", "", ErrLength, "wrong number of words: 0; a mnemonic has 12, 15, 18, 21 or 24"},
		"space":         {"", " \u3000\n", ErrLength, "wrong number of words: 0; a mnemonic has 12, 15, 18, 21 or 24"},
		"11 words":      {"", strings.Join(words[1:], " "), ErrLength, "wrong number of words: 11; a mnemonic has 12, 15, 18, 21 or 24"},
		"13 words":      {"", legal + " legal", ErrLength, "wrong number of words: 13; a mnemonic has 12, 15, 18, 21 or 24"},
		"9 words":       {"", strings.Join(words[:9], " "), ErrLength, "wrong number of words: 9; a mnemonic has 12, 15, 18, 21 or 24"},
		"27 words":      {"", legal + " " + legal + " a b c", ErrLength, "wrong number of words: 27; a mnemonic has 12, 15, 18, 21 or 24"},
		"too long":      {"", legal + strings.Repeat(" ", 4096), ErrLength, "wrong number of words: more than 4096 bytes of text"},
		"one":           {English, with(map[int]string{7: "canary"}), ErrWord, "word 7 is not in the english list"},
		"detected":      {"", with(map[int]string{7: "canary"}), ErrWord, "word 7 is not in the english list, which fits best"},
		"two":           {English, with(map[int]string{7: "canary", 9: "kanarie"}), ErrWord, "words 7 and 9 are not in the english list"},
		"three":         {English, with(map[int]string{7: "canary", 9: "kanarie", 12: "canarino"}), ErrWord, "words 7, 9 and 12 are not in the english list"},
		"five":          {English, with(map[int]string{1: "canary", 2: "canary", 3: "canary", 7: "canary", 9: "canary"}), ErrWord, "words 1, 2, 3 and 2 more are not in the english list"},
		"short":         {English, with(map[int]string{1: "le"}), ErrWord, "word 1 is too short to tell words of the english list apart: give four letters or whole words"},
		"short and not": {English, with(map[int]string{1: "le", 2: "canary"}), ErrWord, "words 1 and 2 are not in the english list"},
		"long word":     {English, with(map[int]string{1: strings.Repeat("canary", 50)}), ErrWord, "word 1 is not in the english list"},
		"31 marks":      {English, with(map[int]string{1: strings.Repeat("\u0301", 31)}), ErrWord, "word 1 is not in the english list"},
		"of a kind":     {"", strings.Repeat("kanarie ", 12), ErrWord, "none of the 12 words is in any of the 10 lists"},
		"checksum":      {"", with(map[int]string{12: "winner"}), ErrChecksum, "checksum does not match: a word is wrong or out of place (english)"},
		"order":         {English, with(map[int]string{1: "winner", 2: "legal"}), ErrChecksum, "checksum does not match: a word is wrong or out of place (english)"},
		"two lists":     {"", strings.Repeat("的 ", 12), ErrChecksum, "checksum does not match: a word is wrong or out of place (chinese_simplified or chinese_traditional)"},
		"other list":    {French, legal, ErrWord, "words 2, 3, 4 and 7 more are not in the french list"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse(text(c.in), c.language)
			if p != nil || !errors.Is(err, c.is) || err.Error() != c.says {
				t.Errorf("%v, %v\nwant %s", p, err, c.says)
			}
		})
	}
	var e *WordError
	_, err := Parse(text(with(map[int]string{2: "x", 3: "x", 4: "x", 5: "x"})), English)
	if !errors.As(err, &e) || !slices.Equal(e.Positions, []int{2, 3, 4}) || e.Wrong != 4 || e.Words != 12 || e.Language != English || e.Detected {
		t.Errorf("%+v", e)
	}
}

// shared returns words of a that are also in b, with their numbers in both.
func shared(a, b *list) (words [][]byte, inA, inB []int16) {
	var w typed
	for i := range listWords {
		w.read(a.words.at(i))
		if j := b.find(&w); j >= 0 && bytes.Equal(a.words.at(i), b.words.at(j)) {
			words = append(words, a.words.at(i))
			inA, inB = append(inA, int16(i)), append(inB, int16(j))
		}
	}
	return words, inA, inB
}

// twelve looks for twelve shared words whose checksums are as asked for.
func twelve(t *testing.T, a, b *list, wantA, wantB bool) string {
	t.Helper()
	words, inA, inB := shared(a, b)
	w := newWorkspace()
	for try := range 100_000 {
		var pick [][]byte
		var x, y []int16
		for i := range 12 {
			n := (try*(2*i+1) + i*i*7 + try/13*i) % len(words)
			pick, x, y = append(pick, words[n]), append(x, inA[n]), append(y, inB[n])
		}
		if w.checks(x) == wantA && w.checks(y) == wantB {
			return string(bytes.Join(pick, []byte(" ")))
		}
	}
	t.Fatalf("no twelve words of %s and %s", a.language, b.language)
	return ""
}

func TestDetection(t *testing.T) {
	english, _ := lookup(English)
	french, _ := lookup(French)
	simplified, _ := lookup(ChineseSimplified)
	traditional, _ := lookup(ChineseTraditional)

	for _, c := range []struct{ a, b *list }{{english, french}, {simplified, traditional}} {
		both := twelve(t, c.a, c.b, true, true)
		var e *AmbiguousError
		if _, err := Parse(text(both), ""); !errors.Is(err, ErrAmbiguous) || !errors.As(err, &e) ||
			!slices.Equal(e.Languages, []Language{c.a.language, c.b.language}) ||
			err.Error() != fmt.Sprintf("several languages fit (%s and %s): name the language", c.a.language, c.b.language) {
			t.Errorf("%s: %v", both, err)
		}
		for _, l := range []*list{c.a, c.b} {
			if p, err := Parse(text(both), l.language); err != nil || p.Language() != l.language || string(p.Text().Expose()) != both {
				t.Errorf("%s as %s: %v", both, l.language, err)
			}
		}
	}
	// One valid checksum decides between two lists that have all the words.
	for _, c := range []struct {
		inEnglish, inFrench bool
		want                Language
	}{{true, false, English}, {false, true, French}} {
		one := twelve(t, english, french, c.inEnglish, c.inFrench)
		if p, err := Parse(text(one), ""); err != nil || p.Language() != c.want {
			t.Errorf("%s: %v, want %s", one, err, c.want)
		}
	}
	none := twelve(t, english, french, false, false)
	if _, err := Parse(text(none), ""); !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), "english or french") {
		t.Errorf("%s: %v", none, err)
	}
}

func TestPhraseNeverPrints(t *testing.T) {
	p, err := Parse(text(legal), English)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{p, *p, struct{ P *Phrase }{p}, []*Phrase{p}} {
			out := fmt.Sprintf(verb, value)
			if strings.Contains(out, "winner") || strings.Contains(out, hex.EncodeToString([]byte("winner"))) || strings.Contains(out, "119 105 110") {
				t.Errorf("%s of %T printed the words: %s", verb, value, out)
			}
		}
	}
	if got := fmt.Sprint(p); got != "[secret]" {
		t.Errorf("printed %q", got)
	}
	for _, value := range []any{p, *p} {
		if _, err := json.Marshal(value); !errors.Is(err, secret.ErrMarshal) {
			t.Errorf("json: %v", err)
		}
	}
}

func TestWipe(t *testing.T) {
	in := text(legal)
	p, err := Parse(in, English)
	if err != nil {
		t.Fatal(err)
	}
	kept, given := p.text.Expose(), p.Text()
	p.Wipe()
	p.Wipe()
	(*Phrase)(nil).Wipe()
	if !bytes.Equal(kept, make([]byte, len(legal))) {
		t.Error("the phrase still holds the words")
	}
	if string(given.Expose()) != legal || string(in.Expose()) != legal {
		t.Error("Wipe reached a secret of the caller")
	}
	for name, p := range map[string]*Phrase{"wiped": p, "zero": {}, "nil": nil} {
		if p.Seed(nil).Len() != 0 || p.Text().Len() != 0 {
			t.Errorf("%s: a phrase without words has a text or a seed", name)
		}
	}
}

// The workspace, which held the words in several forms, is left all zero.
func TestWorkspaceIsWiped(t *testing.T) {
	w := newWorkspace()
	w.split([]byte(legal))
	w.typed.read([]byte("winner"))
	w.number[3][4], w.bits[5] = 7, 8
	w.wipe()
	if !bytes.Equal(w.bits[:], make([]byte, len(w.bits))) || w.raw[0] != nil || w.number[3][4] != 0 ||
		w.typed.form != [expansion * maxRaw]byte{} || w.typed.wordBuf != [maxWord]byte{} || w.typed.baseBuf != [maxWord]byte{} || w.typed.word != nil {
		t.Error("the workspace is not wiped")
	}
}
