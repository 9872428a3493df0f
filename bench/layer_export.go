// The upstream algorithm for one new layer, step by step as the CNB lifecycle and the libraries under it perform it
// when they export to an image layout:
//
//  1. walk the tree and write a tar to a file, hashing beside it
//  2. read the tar, gzip it at BestSpeed, hash the result and throw the bytes away (the blob's digest and size)
//  3. read the tar again and hash it (the diffID)
//  4. read the tar again and gzip it again, into the layout
//
// Usage: layer_export TREE NAME UID GID OUT
package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

var normalized = time.Date(1980, time.January, 1, 0, 0, 1, 0, time.UTC)

func main() {
	tree, name, out := os.Args[1], os.Args[2], os.Args[5]
	uid, err := strconv.Atoi(os.Args[3])
	check(err)
	gid, err := strconv.Atoi(os.Args[4])
	check(err)
	tarPath := filepath.Join(out, "layer.tar")

	writeTar(tree, name, uid, gid, tarPath)
	digest := hashAll(compressed(tarPath))
	diffID := hashAll(open(tarPath))
	blob, err := os.Create(filepath.Join(out, digest))
	check(err)
	_, err = io.Copy(blob, compressed(tarPath))
	check(err)
	check(blob.Close())
	fmt.Printf("sha256:%s sha256:%s\n", digest, diffID)
}

func writeTar(tree, name string, uid, gid int, path string) {
	file, err := os.Create(path)
	check(err)
	hasher := newConcurrentHash()
	out := tar.NewWriter(io.MultiWriter(hasher, file))
	check(filepath.Walk(tree, func(path string, info os.FileInfo, err error) error {
		check(err)
		if info.Mode()&os.ModeSocket != 0 {
			return nil
		}
		header, err := tar.FileInfoHeader(info, "")
		check(err)
		if info.Mode()&os.ModeSymlink != 0 {
			header.Linkname, err = os.Readlink(path)
			check(err)
		}
		header.Name = name + strings.TrimPrefix(path, tree)
		header.Uid, header.Gid, header.Uname, header.Gname = uid, gid, "", ""
		header.ModTime = normalized
		check(out.WriteHeader(header))
		if info.Mode().IsRegular() {
			content, err := os.Open(path)
			check(err)
			_, err = io.Copy(out, content)
			check(err)
			check(content.Close())
		}
		return nil
	}))
	check(out.Close())
	check(file.Close())
	hasher.sum()
}

// compressed gives the file's gzip through a pipe, so that whoever reads it works beside the compressor.
func compressed(path string) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(writer, 2<<16)
		zipped, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
		check(err)
		file := open(path)
		_, err = io.Copy(zipped, file)
		check(err)
		check(file.Close())
		check(zipped.Close())
		check(buffered.Flush())
		check(writer.Close())
	}()
	return reader
}

func hashAll(content io.ReadCloser) string {
	hash := sha256.New()
	_, err := io.Copy(hash, content)
	check(err)
	check(content.Close())
	return fmt.Sprintf("%x", hash.Sum(nil))
}

func open(path string) io.ReadCloser {
	file, err := os.Open(path)
	check(err)
	return file
}

// concurrentHash hashes in a goroutine what is written to it.
type concurrentHash struct {
	hash   hash.Hash
	chunks chan []byte
	done   chan struct{}
}

func newConcurrentHash() *concurrentHash {
	h := &concurrentHash{sha256.New(), make(chan []byte, 10), make(chan struct{})}
	go func() {
		for chunk := range h.chunks {
			h.hash.Write(chunk)
		}
		close(h.done)
	}()
	return h
}

func (h *concurrentHash) Write(data []byte) (int, error) {
	h.chunks <- append([]byte(nil), data...)
	return len(data), nil
}

func (h *concurrentHash) sum() string {
	close(h.chunks)
	<-h.done
	return fmt.Sprintf("%x", h.hash.Sum(nil))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "layer_export:", err)
		os.Exit(1)
	}
}
