// Answers questions about Dockerfiles with BuildKit's own packages: the oracle of test_dockerfile_language.py.
// It reads one JSON document from standard input and writes one to standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

type object = map[string]any

type questions struct {
	Dockerfiles []string
	Environment map[string]string
	Words       []struct {
		Text, Escape string
	}
	Ignore []struct {
		File  string
		Paths []string
	}
	Globs []struct {
		Pattern, Path string
	}
	Repositories []string
}

func main() {
	var asked questions
	check(json.NewDecoder(os.Stdin).Decode(&asked))
	var environment []string
	for name, value := range asked.Environment {
		environment = append(environment, name+"="+value)
	}
	variables := shell.EnvsFromSlice(environment)
	answers := object{}

	var files []any
	for _, text := range asked.Dockerfiles {
		files = append(files, dockerfile(text, variables))
	}
	answers["dockerfiles"] = files

	var words []any
	for _, word := range asked.Words {
		text, _, err := shell.NewLex([]rune(word.Escape)[0]).ProcessWord(word.Text, variables)
		if err != nil {
			words = append(words, nil)
		} else {
			words = append(words, text)
		}
	}
	answers["words"] = words

	var ignored []any
	for _, one := range asked.Ignore {
		ignored = append(ignored, ignore(one.File, one.Paths))
	}
	answers["ignore"] = ignored

	var globs []any
	for _, glob := range asked.Globs {
		fits, err := filepath.Match(glob.Pattern, glob.Path)
		if err != nil {
			globs = append(globs, nil)
		} else {
			globs = append(globs, fits)
		}
	}
	answers["globs"] = globs

	var repositories []any
	for _, source := range asked.Repositories {
		repositories = append(repositories, repository(source))
	}
	answers["repositories"] = repositories
	check(json.NewEncoder(os.Stdout).Encode(answers))
}

// repository gives nil for what is none, "error" for one that is refused.
func repository(source string) any {
	ref, isGit, err := dfgitutil.ParseGitRef(source)
	if !isGit {
		return nil
	}
	if err != nil {
		return "error"
	}
	return object{
		"remote":     ref.Remote,
		"ref":        ref.Ref,
		"folder":     ref.SubDir,
		"commit":     ref.Checksum,
		"keep":       ref.KeepGitDir,
		"submodules": ref.Submodules == nil || *ref.Submodules,
	}
}

// dockerfile gives nil for a file that is refused.
func dockerfile(text string, variables shell.EnvGetter) any {
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil
	}
	stages, metaArgs, err := instructions.Parse(parsed.AST, nil)
	if err != nil || len(stages) == 0 {
		return nil
	}
	lex := shell.NewLex(parsed.EscapeToken)
	expand := func(word string) (string, error) {
		result, _, err := lex.ProcessWord(word, variables)
		return result, err
	}
	// The frontend does this to the bodies of COPY's heredocs.
	expandBody := func(word string) (string, error) {
		bodies := shell.NewLex('\\')
		bodies.SkipProcessQuotes = true
		result, _, err := bodies.ProcessWord(word, variables)
		return result, err
	}
	var before []any
	for i := range metaArgs {
		before = append(before, args(&metaArgs[i]))
	}
	var all []any
	for _, stage := range stages {
		commands := []any{}
		for _, command := range stage.Commands {
			commands = append(commands, described(command, expand, expandBody))
		}
		all = append(all, object{"name": stage.Name, "base": stage.BaseName, "platform": stage.Platform, "commands": commands})
	}
	return object{"meta": before, "stages": all, "escape": string(parsed.EscapeToken)}
}

// described gives "error" for what cannot be expanded.
func described(command instructions.Command, expand, expandBody instructions.SingleWordExpander) any {
	if _, isArg := command.(*instructions.ArgCommand); !isArg {
		if expandable, ok := command.(instructions.SupportsSingleWordExpansion); ok {
			if err := expandable.Expand(expand); err != nil {
				return "error"
			}
		}
	}
	if expandable, ok := command.(instructions.SupportsSingleWordExpansionRaw); ok {
		if err := expandable.ExpandRaw(expandBody); err != nil {
			return "error"
		}
	}
	name := strings.ToUpper(command.Name())
	switch c := command.(type) {
	case *instructions.ArgCommand:
		return args(c)
	case *instructions.EnvCommand:
		return object{"is": name, "pairs": pairs(c.Env)}
	case *instructions.LabelCommand:
		return object{"is": name, "pairs": pairs(c.Labels)}
	case *instructions.CopyCommand:
		fields := paths(name, c.SourcesAndDest)
		fields["flags"] = []any{c.Chown, c.Chmod, c.Link, list(c.ExcludePatterns), c.From, c.Parents}
		return fields
	case *instructions.AddCommand:
		fields := paths(name, c.SourcesAndDest)
		fields["flags"] = []any{c.Chown, c.Chmod, c.Link, list(c.ExcludePatterns), c.Checksum, c.KeepGitDir, c.Unpack}
		return fields
	case *instructions.RunCommand:
		fields := line(name, c.ShellDependantCmdLine)
		fields["network"] = instructions.GetNetwork(c)
		fields["security"] = instructions.GetSecurity(c)
		mounts := []any{}
		for _, m := range instructions.GetMounts(c) {
			mounts = append(mounts, []any{m.Type, m.From, m.Source, m.Target, m.ReadOnly, m.SizeLimit, m.CacheID, m.CacheSharing, m.Required, m.Env, m.Mode, m.UID, m.GID})
		}
		fields["mounts"] = mounts
		return fields
	case *instructions.CmdCommand:
		return line(name, c.ShellDependantCmdLine)
	case *instructions.EntrypointCommand:
		return line(name, c.ShellDependantCmdLine)
	case *instructions.ShellCommand:
		return object{"is": name, "words": list(c.Shell)}
	case *instructions.HealthCheckCommand:
		h := c.Health
		return object{"is": name, "test": list(h.Test), "times": []any{h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}}
	case *instructions.ExposeCommand:
		return object{"is": name, "words": list(c.Ports)}
	case *instructions.VolumeCommand:
		return object{"is": name, "words": list(c.Volumes)}
	case *instructions.UserCommand:
		return object{"is": name, "words": []string{c.User}}
	case *instructions.WorkdirCommand:
		return object{"is": name, "words": []string{c.Path}}
	case *instructions.StopSignalCommand:
		return object{"is": name, "words": []string{c.Signal}}
	case *instructions.MaintainerCommand:
		return object{"is": name, "words": []string{c.Maintainer}}
	case *instructions.OnbuildCommand:
		return object{"is": name, "words": []string{c.Expression}}
	}
	panic(fmt.Sprintf("%T", command))
}

func args(command *instructions.ArgCommand) any {
	out := []any{}
	for _, arg := range command.Args {
		out = append(out, []any{arg.Key, arg.Value})
	}
	return object{"is": "ARG", "pairs": out}
}

func pairs(all instructions.KeyValuePairs) any {
	out := []any{}
	for _, pair := range all {
		out = append(out, []any{pair.Key, pair.Value})
	}
	return out
}

func paths(name string, of instructions.SourcesAndDest) object {
	files := []any{}
	for _, file := range of.SourceContents {
		files = append(files, []any{file.Path, file.Data, file.Expand})
	}
	return object{"is": name, "sources": list(of.SourcePaths), "files": files, "destination": of.DestPath}
}

func line(name string, of instructions.ShellDependantCmdLine) object {
	files := []any{}
	for _, file := range of.Files {
		files = append(files, []any{file.Name, file.Data, file.Chomp})
	}
	return object{"is": name, "words": list(of.CmdLine), "shell": of.PrependShell, "files": files}
}

func list(words []string) []string {
	return append([]string{}, words...)
}

// ignore gives nil for a file that is refused.
func ignore(file string, paths []string) any {
	lines, err := ignorefile.ReadAll(strings.NewReader(file))
	if err != nil {
		return nil
	}
	matcher, err := patternmatcher.New(lines)
	if err != nil {
		return nil
	}
	out := []bool{}
	for _, path := range paths {
		// From the top down, as the walk of a build context does it.
		var matched bool
		var info patternmatcher.MatchInfo
		parts := strings.Split(path, "/")
		for i := range parts {
			matched, info, err = matcher.MatchesUsingParentResults(strings.Join(parts[:i+1], "/"), info)
			if err != nil {
				return nil
			}
		}
		out = append(out, matched)
	}
	return out
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gobuildkit:", err)
		os.Exit(1)
	}
}
