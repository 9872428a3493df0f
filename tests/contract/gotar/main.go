// Writes layers with archive/tar the way the CNB lifecycle uses it, and prints the digest of each tar: the oracle
// of test_layer_bytes.py. It reads JSON from standard input: a list of layers, each a list of parts.
package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

type part struct {
	Kind     string // "tree", "slice", "directory", "symlink"
	Name     string // in the image
	From     string // on disk
	Target   string
	Mode     int64
	UID, GID int
}

var normalized = time.Date(1980, time.January, 1, 0, 0, 1, 0, time.UTC)

func main() {
	var layers [][]part
	check(json.NewDecoder(os.Stdin).Decode(&layers))
	for _, parts := range layers {
		hash := sha256.New()
		out := tar.NewWriter(hash)
		for _, p := range parts {
			p.write(out)
		}
		check(out.Close())
		fmt.Printf("sha256:%x\n", hash.Sum(nil))
	}
}

func (p part) write(out *tar.Writer) {
	switch p.Kind {
	case "directory":
		p.writeHeader(out, &tar.Header{Typeflag: tar.TypeDir, Name: p.Name, Mode: p.Mode})
	case "symlink":
		p.writeHeader(out, &tar.Header{Typeflag: tar.TypeSymlink, Name: p.Name, Linkname: p.Target, Mode: p.Mode})
	default:
		for _, path := range p.walk() {
			p.writeFile(out, path)
		}
	}
}

func (p part) walk() (paths []string) {
	check(filepath.Walk(p.From, func(path string, _ os.FileInfo, err error) error {
		paths = append(paths, path)
		return err
	}))
	if p.Kind == "slice" {
		sort.Strings(paths)
	}
	return paths
}

func (p part) writeFile(out *tar.Writer, path string) {
	info, err := os.Lstat(path)
	check(err)
	if info.Mode()&os.ModeSocket != 0 {
		return
	}
	header, err := tar.FileInfoHeader(info, "")
	check(err)
	header.Name = p.Name + strings.TrimPrefix(path, p.From)
	if info.Mode()&os.ModeSymlink != 0 {
		header.Linkname, err = os.Readlink(path)
		check(err)
	}
	p.writeHeader(out, header)
	if info.Mode().IsRegular() {
		file, err := os.Open(path)
		check(err)
		_, err = io.Copy(out, file)
		check(err)
		check(file.Close())
	}
}

func (p part) writeHeader(out *tar.Writer, header *tar.Header) {
	header.ModTime, header.Uid, header.Gid = normalized, p.UID, p.GID
	header.Uname, header.Gname = "", ""
	check(out.WriteHeader(header))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotar:", err)
		os.Exit(1)
	}
}
