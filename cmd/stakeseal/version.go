package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/internal/build"
)

func (a *app) versionVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.object(struct {
					Schema   string `json:"schema"`
					Version  string `json:"version"`
					Commit   string `json:"commit,omitempty"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
				}{"stakeseal/version/v1", build.Version, build.Commit(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
			}
			commit := build.Commit()
			if commit == "" {
				commit = "commit unknown"
			}
			_, err := fmt.Fprintf(a.out, "stakeseal %s (%s, %s, %s/%s)\n", build.Version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
