package mnemonic

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// digests are the sha256 of the files of bitcoin/bips, folder bip-0039.
var digests = map[Language]string{
	English:            "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda",
	Japanese:           "2eed0aef492291e061633d7ad8117f1a2b03eb80a29d0e4e3117ac2528d05ffd",
	Korean:             "9e95f86c167de88f450f0aaf89e87f6624a57f973c67b516e338e8e8b8897f60",
	Spanish:            "46846a5a0139d1e3cb77293e521c2865f7bcdb82c44e8d0a06a2cd0ecba48c0b",
	ChineseSimplified:  "5c5942792bd8340cb8b27cd592f1015edf56a8c5b26276ee18a482428e7c5726",
	ChineseTraditional: "417b26b3d8500a4ae3d59717d7011952db6fc2fb84b807f3f94ac734e89c1b5f",
	French:             "ebc3959ab7801a1df6bac4fa7d970652f1df76b683cd2f4003c941c63d517e59",
	Italian:            "d392c49fdb700a24cd1fceb237c1f65dcc128f6b34a8aacb58b59384b5c648c2",
	Czech:              "7e80e161c3e93d9554c2efb78d4e3cebf8fc727e9c52e03b83b94406bdcc95fc",
	Portuguese:         "2685e9c194c82ae67e10ba59d9ea5345a23dc093e92276fc5361f6667d79cd3f",
}

func TestLists(t *testing.T) {
	if len(Languages()) != 10 || len(digests) != 10 {
		t.Fatalf("%d languages, %d digests, want 10", len(Languages()), len(digests))
	}
	entries, err := files.ReadDir("wordlists")
	if err != nil || len(entries) != 10 {
		t.Fatalf("%d embedded files, want 10: %v", len(entries), err)
	}
	for _, language := range Languages() {
		text, err := files.ReadFile("wordlists/" + string(language) + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != digests[language] {
			t.Errorf("%s: sha256 %s, want %s", language, got, digests[language])
		}
		l, err := lookup(language)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		if len(lines) != listWords {
			t.Fatalf("%s: %d words", language, len(lines))
		}
		for i, line := range lines {
			if !bytes.Equal(l.words.at(i), line) {
				t.Fatalf("%s: word %d was loaded wrong", language, i)
			}
			if !norm.NFKD.IsNormal(line) || len(line) > maxWord || !bytes.Equal(line, bytes.ToLower(line)) {
				t.Errorf("%s: word %d is not lower case, not NFKD or too long", language, i)
			}
		}
	}
}

// first returns the first n letters of a word, with their marks or without.
func first(word []byte, n int, marks bool) string {
	var out []byte
	for ; n > 0 && len(word) > 0; n-- {
		l := letter(word)
		word = word[len(l):]
		if !marks {
			_, size := utf8.DecodeRune(l)
			l = l[:size]
		}
		out = append(out, l...)
	}
	return string(out)
}

// What the table in list.go claims of the lists is true of the lists.
func TestListProperties(t *testing.T) {
	for _, l := range lists {
		l.load()
		four, bases, marked := map[string]bool{}, map[string]bool{}, 0
		for i := range listWords {
			word := l.words.at(i)
			four[first(word, abbreviation, !l.accentsAreFree)] = true
			base := first(word, 99, false)
			bases[base] = true
			if base != string(word) {
				marked++
			}
		}
		if unique := len(four) == listWords; unique != l.abbreviates && utf8.RuneCount(l.words.at(0)) > 1 {
			t.Errorf("%s: abbreviates is %v, but four letters tell %d words apart", l.language, l.abbreviates, len(four))
		}
		// Without this, a word typed without accents might mean two.
		if l.accentsAreFree && (len(bases) != listWords || marked == 0) {
			t.Errorf("%s: %d words without accents, %d with marks", l.language, len(bases), marked)
		}
	}
}

// Every word of every list is found as it is, in capitals, composed, and by
// its first four letters; an abbreviation finds nothing where the list has
// none.
func TestFindEveryWord(t *testing.T) {
	var w typed
	find := func(l *list, s string) int {
		w.read([]byte(s))
		return l.find(&w)
	}
	for _, l := range lists {
		l.load()
		for i := range listWords {
			word := string(l.words.at(i))
			forms := []string{word, string(bytes.ToUpper([]byte(word))), norm.NFC.String(word), norm.NFC.String(string(bytes.ToTitle([]byte(word))))}
			if l.accentsAreFree {
				forms = append(forms, first([]byte(word), 99, false))
			}
			if l.abbreviates {
				four := first([]byte(word), abbreviation, true)
				forms = append(forms, four, norm.NFC.String(four), first([]byte(word), abbreviation+1, true))
				if l.accentsAreFree {
					forms = append(forms, first([]byte(word), abbreviation, false))
				}
			}
			for _, form := range forms {
				if got := find(l, form); got != i {
					t.Errorf("%s: %q found %d, want %d", l.language, form, got, i)
				}
			}
			for _, wrong := range []string{word + "x", "x" + word, word + word, word + "\u0308", "\u0301" + word, first([]byte(word), 1, true) + "\u0308"} {
				if got := find(l, wrong); got >= 0 {
					t.Errorf("%s: %q found %d", l.language, wrong, got)
				}
			}
		}
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		language Language
		typed    string
		want     string // "" unknown, "?" short
	}{
		{English, "act", "act"}, // a whole word wins over actor, actress, actual
		{English, "ACTO", "actor"},
		{English, "acto", "actor"},
		{English, "actr", "actress"},
		{English, "actua", "actual"},
		{English, "abandons", ""},
		{English, "abanx", ""},
		{English, "aba", "?"}, // only abandon, but under four letters
		{English, "ab", "?"},
		{English, "a", "?"},
		{English, "zzz", ""},
		{English, "zoo", "zoo"},
		{English, "ábandon", ""}, // an accent where there is none
		{English, "ａｂａｎｄｏｎ", "abandon"},
		{English, "ﬁnal", "final"}, // a ligature is two letters in NFKD
		{English, "ABANDON", "abandon"},
		{French, "académie", "académie"},
		{French, "ACADÉMIE", "académie"},
		{French, "academie", "académie"},
		{French, "acade", "académie"},
		{French, "acadé", "académie"},
		{French, "acad", "académie"},
		{French, "acadè", ""}, // the wrong accent
		{French, "âcadémie", ""},
		{French, "aca", "?"},
		{Spanish, "ábaco", "ábaco"},
		{Spanish, "abaco", "ábaco"},
		{Spanish, "ábac", "ábaco"},
		{Spanish, "abac", "ábaco"},
		{Spanish, "abacó", ""},
		{Spanish, "niño", "niño"},
		{Spanish, "nino", "niño"},
		{Spanish, "mes", "mes"}, // and mesón
		{Spanish, "meses", ""},
		{Japanese, "あいこくしん", "あいこくしん"},
		{Japanese, "あいこく", "あいこくしん"},
		{Japanese, "がいけん", "がいけん"},
		{Japanese, "かいけん", ""}, // か is not が
		{Japanese, "あいこぐ", ""},
		{Korean, "가격", "가격"},
		{Korean, "가겨", ""}, // jamo are not letters to abbreviate by
		{ChineseSimplified, "的", "的"},
		{ChineseTraditional, "的", "的"},
		{Portuguese, "abacate", "abacate"},
		{Italian, "abac", "abaco"},
		{Czech, "abdi", "abdikace"},
		{English, "", ""},
		{English, "\u0301", ""},
		{English, "\u200babandon", ""},
	} {
		l, err := lookup(c.language)
		if err != nil {
			t.Fatal(err)
		}
		var w typed
		w.read([]byte(c.typed))
		got := ""
		switch i := l.find(&w); i {
		case unknown:
		case short:
			got = "?"
		default:
			got = norm.NFC.String(string(l.words.at(i)))
		}
		if got != c.want {
			t.Errorf("%s: %q found %q, want %q", c.language, c.typed, got, c.want)
		}
	}
}

func TestLanguages(t *testing.T) {
	if got := Languages(); !slices.Contains(got, English) || got[0] != English {
		t.Errorf("languages %v", got)
	}
	Languages()[0] = "changed"
	if Languages()[0] != English {
		t.Error("the list of languages can be changed from outside")
	}
}
