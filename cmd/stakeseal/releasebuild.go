package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/release"
)

type releaseBuildFlags struct {
	source, commit, settings, arch, compiler, cache, out string
	tree                                                 bool
}

func (a *app) releaseBuildVerb() *cobra.Command {
	var f releaseBuildFlags
	cmd := &cobra.Command{
		Use:   "build --settings DIR",
		Short: "Build the package: generator, settings, recipients, list of contents, provenance",
		Long: `Build the package of a commit: the static generator, generator.yaml and the
recipients it names, a CycloneDX list of what is inside, and a statement of how it
was built. The package's sha256 is its name.

The same commit and settings give the same bytes on any machine with the same
version of Go, of the C compiler and of its C library; provenance.json names them.
--compiler zig takes the C library from Zig, so that only the versions of Go and
Zig have to be equal.

Changes that are not committed are not in the package.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.releaseBuild(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", ".", "the git `DIR` with stakeseal's source")
	flags.StringVar(&f.commit, "commit", "HEAD", "the `COMMIT` to build")
	flags.StringVar(&f.settings, "settings", "", "the `DIR` of generator.yaml and recipients/ (default: the home)")
	flags.StringVar(&f.arch, "arch", runtime.GOARCH, "the `ARCH` to build for: arm64 or x86_64")
	flags.StringVar(&f.compiler, "compiler", "gcc", "the C `COMPILER`: gcc, zig, or the path of zig")
	flags.StringVar(&f.cache, "cache", "", "go's build cache `DIR`; an empty one builds everything anew (default: yours)")
	flags.StringVarP(&f.out, "out", "o", "", "the `FILE` to write (default: stakeseal-ARCH-DIGEST.zip here)")
	flags.BoolVar(&f.tree, "tree", false, "build the working tree as it is, for tests: such a package can't be submitted")
	return cmd
}

func (a *app) releaseBuild(ctx context.Context, f releaseBuildFlags) error {
	settings := f.settings
	if settings == "" {
		dir, err := a.homeDir()
		if err != nil {
			return err
		}
		settings = dir
	}
	arch, err := release.Architecture(f.arch)
	if err != nil {
		return usage("", "--arch: %w", err)
	}
	repo := repository(f.source)
	r := release.Recipe{Repository: repo, Arch: arch, Compiler: f.compiler}
	if f.cache != "" {
		if r.Cache, err = filepath.Abs(f.cache); err != nil {
			return err
		}
	}
	if !f.tree {
		if r.Commit, err = repo.Resolve(ctx, f.commit); err != nil {
			return err
		}
		a.say("building commit %s for linux/%s, settings %s", r.Commit, arch, settings)
		if changed, err := repo.Changed(ctx); err == nil && len(changed) > 0 {
			a.say("note: %d files of %s are not as committed, and not in the package", len(changed), f.source)
		}
	} else {
		a.say("building the working tree %s for linux/%s, settings %s: for tests, it can't be submitted", f.source, arch, settings)
	}
	folder, err := os.OpenRoot(settings)
	if err != nil {
		return fmt.Errorf("couldn't open the settings' folder: %w", err)
	}
	defer folder.Close()
	if _, err := folder.Stat(config.GeneratorFile); err != nil {
		return usage("name the folder of generator.yaml with --settings", "couldn't find the settings: %w", err)
	}
	r.Settings = folder.FS()
	p, err := release.Build(ctx, r)
	if err != nil {
		return err
	}
	out := f.out
	if out == "" {
		out = fmt.Sprintf("stakeseal-%s-%s.zip", arch, p.Digest.String()[:12])
	}
	if err := writeNew(out, p.Data, 0o644); err != nil {
		return err
	}
	return a.reportPackage(p, out)
}

// packageJSON is what is printed of a package.
type packageJSON struct {
	Schema     string             `json:"schema"`
	File       string             `json:"file,omitempty"`
	Package    string             `json:"package_sha256"`
	Bytes      int                `json:"bytes"`
	Binary     string             `json:"binary_sha256"`
	Settings   string             `json:"settings_sha256"`
	Network    string             `json:"network"`
	Provenance release.Provenance `json:"provenance"`
}

func describePackage(p *release.Package, file string) packageJSON {
	return packageJSON{"stakeseal/package/v1", file, p.Digest.String(), len(p.Data), p.Binary.String(), p.Provenance.Settings.String(), p.Settings.Network.Name, p.Provenance}
}

func (a *app) reportPackage(p *release.Package, file string) error {
	if a.json {
		return a.object(describePackage(p, file))
	}
	t := newTable(a.out)
	t.row("package", p.Digest.String())
	t.row("  file", fmt.Sprintf("%s (%.1f MB)", file, float64(len(p.Data))/1e6))
	t.row("commit", orDash(p.Provenance.Commit))
	t.row("platform", p.Provenance.Platform)
	t.row("program", p.Binary.String())
	t.row("settings", p.Provenance.Settings.String())
	t.row("network", p.Settings.Network.Name)
	t.row("built with", p.Provenance.Toolchain+", "+p.Provenance.Compiler.Version)
	t.row("modules", fmt.Sprint(len(p.Provenance.Modules)))
	if err := t.flush(); err != nil {
		return err
	}
	a.say("for equal bytes somebody else needs the same commit and settings, %s, %s%s", p.Provenance.Toolchain, p.Provenance.Compiler.Version, libraryWords(p.Provenance.Compiler))
	return nil
}

// libraryWords says what of the machine must be equal too.
func libraryWords(c release.Compiler) string {
	if strings.HasPrefix(c.Command, "zig ") {
		return ""
	}
	return ", " + c.Assembler + ", " + c.Linker + ", and the C library whose digests provenance.json names"
}
