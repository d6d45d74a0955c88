package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/release"
)

// maker is the program that makes keys in a home, and what it is told.
type maker struct {
	program string
	args    []string // beside the number of workers
}

// maker finds the program that makes keys. Where the trust file names release
// managers it is that of the release in force, verified from its bytes to the
// last signature, at each start; there is no way around it but to change the
// trust file, which every verifier would have to change too. Elsewhere it is
// the program beside this one.
func (h *home) maker(ctx context.Context, now time.Time) (maker, error) {
	if len(h.trust.Managers) == 0 {
		if _, err := os.Lstat(filepath.Join(h.dir, release.PointerFile)); err == nil {
			return maker{}, usage("name them again, or remove "+release.PointerFile+" to make keys with the installed program", "a release is in force here, and %s names no release managers", trustFile)
		}
		self, err := os.Executable()
		if err != nil {
			return maker{}, fmt.Errorf("couldn't find this program's folder: %w", err)
		}
		return maker{program: filepath.Join(filepath.Dir(self), generatorProgram)}, nil
	}
	target := release.Home{Dir: h.dir, Trust: h.trust}
	in, err := target.InForce(ctx, now)
	if errors.Is(err, release.ErrNoRelease) {
		return maker{}, fail(exitDenied, "stakeseal release deploy puts one in force", "%s names release managers, and no release is in force: only a signed one makes keys here", trustFile)
	}
	if err != nil {
		return maker{}, releaseError(err)
	}
	if !target.Listed(in.Signed) {
		return maker{}, fail(exitRefused, "stakeseal release deploy adds it", "%s does not list release %q: what it makes would not verify", trustFile, in.Release.Name)
	}
	// What was confirmed is what will be used: the settings were read when the
	// home was opened, and a release may have been deployed since.
	if in.Package().Provenance.Settings != certificate.Hash(h.generator.Digest) {
		return maker{}, fail(exitConflict, "run the command again", "another release came into force meanwhile")
	}
	return maker{program: filepath.Join(in.Folder, release.Program), args: []string{release.ReleasesFolder + "/" + in.Package().Digest.String()}}, nil
}

// settingsFolder is where a home's settings in force stand: in the release,
// where one was deployed.
func settingsFolder(home fs.FS) (fs.FS, error) {
	folder, _, err := release.SettingsFolder(home)
	return folder, err
}
