package main

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
)

// wire opens the stores that the settings name.
func (h *home) wire() error {
	store, archive := h.generator.Store, h.generator.Archive
	switch store.Scheme {
	case "sqlite":
		s, err := sqlite.Open(h.path(store.Rest))
		if errors.Is(err, fs.ErrNotExist) {
			return fail(exitUsage, "put it back, or rebuild it from the archive: stakeseal recovery store --home "+quoted(h.dir), "%w", err)
		}
		if err != nil {
			return err
		}
		h.records, h.closer = s, s.Close
	default:
		return usage("use sqlite:FILE", "%s: store %q: this program does not know that kind", config.GeneratorFile, store)
	}
	switch archive.Scheme {
	case "dir":
		f, err := openArchive(h.path(archive.Rest))
		if err != nil {
			h.close()
			return err
		}
		h.archive = f
	default:
		h.close()
		return usage("use dir:FOLDER", "%s: archive %q: this program does not know that kind", config.GeneratorFile, archive)
	}
	return nil
}

// openArchive opens the archive in a folder.
func openArchive(dir string) (record.Archive, error) {
	f, err := folder.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitUsage, "is its disk mounted? put it, or a copy of it, back there", "%w", err)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// path resolves a place in the settings, which is relative to the home.
func (h *home) path(place string) string {
	if filepath.IsAbs(place) {
		return place
	}
	return filepath.Join(h.dir, place)
}
