"""What BuildKit and we are both asked in test_dockerfile_language.py."""

ENVIRONMENT = {
    "A": "aa",
    "B": "two words",
    "EMPTY": "",
    "PATH": "/usr/local/bin:/usr/bin",
    "FILE": "archive.tar.gz",
    "URL": "https://example.com/a/b",
    "STARS": "a*b?c",
    "QUOTED": "\"q\" 'r'",
    "LINES": "one\ntwo",
    "ÄÖ": "umlaut",
    "_u1": "under",
}

_BODIES = r"""
RUN echo hi
RUN
RUN ["echo", "hi"]
RUN [ "echo" , "hi" ]
RUN ["echo", "h\u00e9"]
RUN ["echo", hi]
RUN ["echo", 1]
RUN ['echo', 'hi']
RUN ["a"] ["b"]
RUN []
RUN [[]]
RUN [NaN]
RUN [null]
RUN ["unclosed
RUN echo "a   b" 'c' \\ \" $A ${A}
RUN   	echo   spaced	out
run echo lower
Run echo mixed
RUN --mount=type=cache,target=/c echo
RUN --mount=type=cache,target=/c,id=x,sharing=locked,mode=0755,uid=1,gid=2 echo
RUN --mount=type=cache,target=/c,sharing=wrong echo
RUN --mount=target=/src echo
RUN --mount=type=bind,from=base,source=/a,target=/b,rw echo
RUN --mount=type=bind,from=base,src=/a,dst=/b,readwrite=false echo
RUN --mount=type=bind,destination=/b,ro=true echo
RUN --mount=type=bind,target=/b,ro=perhaps echo
RUN --mount=type=bind,target=/b,mode=0700 echo
RUN --mount=type=bind,target=/b,uid=1 echo
RUN --mount=type=bind,target=/b,sharing=shared echo
RUN --mount=type=bind,target=/b,size=1m echo
RUN --mount=type=tmpfs,target=/t echo
RUN --mount=type=tmpfs,target=/t,size=64m echo
RUN --mount=type=tmpfs,target=/t,size=1.5g echo
RUN --mount=type=tmpfs,target=/t,size=1KiB echo
RUN --mount=type=tmpfs,target=/t,size=big echo
RUN --mount=type=tmpfs,target=/t,size=64 echo
RUN --mount=size=64m,type=tmpfs,target=/t echo
RUN --mount=type=secret,id=tok echo
RUN --mount=type=secret,id=tok,env=TOK,required echo
RUN --mount=type=secret,id=tok,target=/x,mode=0400,uid=1,gid=2,required=false echo
RUN --mount=type=secret,target=/x/y echo
RUN --mount=type=secret,source=s echo
RUN --mount=type=secret echo
RUN --mount=type=secret,source=s,id=t echo
RUN --mount=type=secret,id=t,from=x echo
RUN --mount=type=secret,id=t,sharing=locked echo
RUN --mount=required,type=secret,id=t echo
RUN --mount=type=ssh echo
RUN --mount=type=ssh,id=k,required,mode=0600,target=/s echo
RUN --mount=type=wrong,target=/x echo
RUN --mount=TYPE=CACHE,TARGET=/c echo
RUN --mount=type=cache,target=/c,unknown=1 echo
RUN --mount=type=cache,target echo
RUN --mount=type=cache,target=/c,mode=999 echo
RUN --mount=type=cache,target=/c,uid=x echo
RUN --mount=type=cache,target=/$A echo
RUN --mount=type=$A,target=/c echo
RUN --mount=type=bind,from=$A,target=/c echo
RUN --mount=type=bind,from=a$,target=/c echo
RUN --mount=type=cache,"target=/a,b" echo
RUN --mount='type=cache,target=/a b' echo
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t echo
RUN --mount echo
RUN --mount= echo
RUN --network=none echo
RUN --network=host echo
RUN --network=default echo
RUN --network=bridge echo
RUN --network=none --network=none echo
RUN --security=insecure echo
RUN --security=sandbox echo
RUN --security=off echo
RUN --device=vendor/gpu echo
RUN --unknown echo
RUN -- --flag-like echo
RUN --network=none -- --mount echo
RUN --network="none" echo
RUN --net\work=none echo
CMD echo hi
CMD ["echo", "hi"]
CMD
CMD []
CMD --flag x
ENTRYPOINT ["/x", "y"]
ENTRYPOINT /x y
ENTRYPOINT []
ENTRYPOINT
SHELL ["/bin/bash", "-c"]
SHELL /bin/bash -c
SHELL []
SHELL
ENV A=1
ENV A=1 B=2
ENV A 1
ENV A one two  three
ENV A
ENV
ENV A=1 B
ENV =1
ENV A= B=
ENV A="one two" B='one two' C=one\ two
ENV A="a\"b" B='a\"b'
ENV A=$A$B ${A}=x
ENV A "quoted value" 'and more'
ENV A=x\
ENV A="unclosed
ENV A='unclosed
ENV A=a"b c"d
ENV --x=1 A=1
ENV A=${NOPE:-default} B=${A:+plus}
ENV A=${A:?must} B=${NOPE:?must}
ENV A	tab
LABEL a=b
LABEL a b
LABEL a
LABEL "a b"="c d"
LABEL a.b.c=$A "x"=y
LABEL
ARG A
ARG A=1
ARG A=1 B C=3
ARG A="one two"
ARG
ARG =1
ARG --x y
ARG A=$B
COPY a b
COPY a b c/
COPY a
COPY
COPY ["a b", "c d"]
COPY ["a"]
COPY []
COPY [a b
COPY --from=base a b
COPY --from=0 a b
COPY --from=$A a b
COPY --from=a$ a b
COPY --from a b
COPY --chown=1:2 --chmod=755 a b
COPY --chown=$A a b
COPY --chmod=u=rwX,go=rX a b
COPY --link a b
COPY --link=false a b
COPY --link=TRUE a b
COPY --link= a b
COPY --link=no a b
COPY --link --link a b
COPY --parents a/./b c
COPY --exclude=*.md --exclude=!a.md a b
COPY --exclude a b
COPY --checksum=sha256:00 a b
COPY $A/x ${B} /d/$A
COPY a\ b c
COPY "a" 'b'
COPY a* b? [c] /d/
COPY --chwon=1 a b
ADD a b
ADD https://example.com/x /x
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/x /x
ADD --keep-git-dir https://github.com/moby/buildkit.git#v1 /x
ADD --keep-git-dir=true git@github.com:moby/buildkit.git /x
ADD --keep-git-dir=perhaps a b
ADD --unpack=true a b
ADD --unpack a b
ADD --from=x a b
ADD --parents a b
ADD ["a", "b"]
ADD a
EXPOSE 80
EXPOSE 80 443/tcp 53/udp
EXPOSE 8000-8010
EXPOSE $A
EXPOSE
EXPOSE --x 80
USER root
USER $A:$B
USER 1000:1000
USER a b
USER
WORKDIR /app
WORKDIR rel
WORKDIR $A/x
WORKDIR /with space/x
WORKDIR "/quoted"
WORKDIR
VOLUME /data
VOLUME /a /b $A
VOLUME ["/a", "/b c"]
VOLUME [""]
VOLUME []
VOLUME
STOPSIGNAL SIGTERM
STOPSIGNAL 9
STOPSIGNAL $A
STOPSIGNAL
HEALTHCHECK NONE
HEALTHCHECK none
HEALTHCHECK NONE x
HEALTHCHECK CMD curl -f http://localhost
HEALTHCHECK cmd curl
HEALTHCHECK CMD ["curl", "-f"]
HEALTHCHECK CMD []
HEALTHCHECK CMD
HEALTHCHECK
HEALTHCHECK curl
HEALTHCHECK --interval=30s --timeout=1m30s --start-period=1h --start-interval=500ms --retries=3 CMD x
HEALTHCHECK --interval=1.5s CMD x
HEALTHCHECK --interval=.5s CMD x
HEALTHCHECK --interval=0 CMD x
HEALTHCHECK --interval=0s CMD x
HEALTHCHECK --interval=1us CMD x
HEALTHCHECK --interval=-1s CMD x
HEALTHCHECK --interval=30 CMD x
HEALTHCHECK --interval=x CMD x
HEALTHCHECK --interval= CMD x
HEALTHCHECK --retries=0 CMD x
HEALTHCHECK --retries=-1 CMD x
HEALTHCHECK --retries=x CMD x
HEALTHCHECK --retries=+2 CMD x
HEALTHCHECK --wrong=1 CMD x
HEALTHCHECK --wrong=1 NONE
ONBUILD RUN echo hi
ONBUILD COPY a b
ONBUILD  run  echo
ONBUILD
ONBUILD ONBUILD RUN x
ONBUILD FROM x
ONBUILD MAINTAINER x
ONBUILD ENV a
ONBUILD UNKNOWN x
ONBUILD COPY a
ONBUILD RUN [1]
ONBUILD --x RUN x
MAINTAINER me <me@example.com>
MAINTAINER
MAINTAINER --x y
UNKNOWN x
FROM
FROM b
FROM b AS name
FROM b as NAME
FROM b AS 1name
FROM b AS na/me
FROM b AS
FROM b x name
FROM b AS name extra
FROM --platform=linux/arm64 b
FROM --platform=$A b
FROM --platform b
FROM --wrong=x b
FROM $A
"""

# With newlines; after a FROM unless they bring their own.
_WHOLE = [
    "",
    "\n\n",
    "# only a comment\n",
    "ARG A\n",
    "ARG A=1\nARG B=$A\nFROM x:$B\nARG A\n",
    "RUN x\n",
    "ENV A=1\nFROM x\n",
    "FROM a\nFROM b\nRUN x\n",
    "FROM a\n\n\nRUN x\n\n# c\nRUN y",
    "\ufeffFROM a\nRUN x\n",
    "FROM a\r\nRUN x\r\nRUN y \\\r\n  z\r\n",
    "  FROM a\n\tRUN x\n",
    "FROM a\nRUN a \\\n  b \\\n  c\n",
    "FROM a\nRUN a \\  \n  b\n",
    "FROM a\nRUN a \\\n# comment\n  # another\n  b\n",
    "FROM a\nRUN a \\\n\n\n  b\n",
    "FROM a\nRUN a \\\n",
    "FROM a\nRUN a \\",
    "FROM a\nRUN a \\\n\nRUN b\n",
    "FROM a\nRUN a \\\\\nRUN b\n",
    "FROM a\nRUN a \\\\\\\nRUN b\n",
    "FROM a\nRUN a\\\nb\n",
    "FROM a\n\\\nRUN b\n",
    "FROM a\nRUN \\\n echo\n",
    "FROM a\nRUN a # not a comment\n",
    "FROM a\n# comment \\\nRUN b\n",
    "FROM a\nRUN a \\ b\n",
    "# escape=`\nFROM a\nRUN a `\n b\nENV A=c:\\x B=a`$B\n",
    "# escape=`\nFROM a\nCOPY a\\ c:\\\nRUN b\n",
    "#escape = `\nFROM a\nRUN a `\n b\n",
    "# ESCAPE=`\nFROM a\nRUN a `\n b\n",
    "# escape=x\nFROM a\n",
    "# escape=\\\nFROM a\n",
    "# escape=`\n# escape=`\nFROM a\n",
    "# comment\n# escape=`\nFROM a\nRUN a `\nRUN b\n",
    "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN a `\n b\n",
    "# syntax=a\n# syntax=b\nFROM a\n",
    "# check=skip=all\nFROM a\n",
    "# unknown=x\n# escape=`\nFROM a\nRUN a `\nRUN b\n",
    "\n# escape=`\nFROM a\nRUN a `\nRUN b\n",
    "FROM a\nRUN <<EOF\necho hi\nEOF\n",
    "FROM a\nRUN <<EOF\n\nEOF\nRUN next\n",
    "FROM a\nRUN <<EOF\nEOF\n",
    "FROM a\nRUN <<EOF\necho hi\n",
    "FROM a\nRUN <<EOF\necho hi\n EOF\n",
    "FROM a\nRUN <<EOF\necho hi\nEOF",
    "FROM a\nRUN <<EOF\r\necho hi\r\nEOF\r\n",
    "FROM a\nRUN << EOF\necho hi\nEOF\n",
    "FROM a\nRUN <<-EOF\n\techo hi\n\t\tdeep\n\tEOF\n",
    "FROM a\nRUN <<-EOF\n  echo hi\n\tEOF\n",
    "FROM a\nRUN <<'EOF'\necho $A\nEOF\n",
    'FROM a\nRUN <<"EOF"\necho $A\nEOF\n',
    "FROM a\nRUN <<E'O'F\necho $A\nEOF\n",
    "FROM a\nRUN <<EOF cat\nhi\nEOF\n",
    "FROM a\nRUN cat <<EOF > /x\nhi\nEOF\n",
    "FROM a\nRUN cat <<A <<B\na\nA\nb\nB\n",
    "FROM a\nRUN 3<<EOF cat\nhi\nEOF\n",
    "FROM a\nRUN <<EOF python3\nprint(1)\nEOF\n",
    "FROM a\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n",
    "FROM a\nRUN cat <<<here\nRUN next\n",
    "FROM a\nRUN echo 'a <<EOF b'\nRUN next\n",
    'FROM a\nRUN echo "a <<EOF b"\nRUN next\n',
    "FROM a\nRUN echo \\<<EOF\nRUN next\n",
    "FROM a\nRUN echo it's <<EOF\nRUN next\n",
    "FROM a\nRUN echo $((1<<2))\nRUN next\n",
    "FROM a\nRUN x<<EOF\nhi\nEOF\n",
    "FROM a\nRUN <<\nRUN next\n",
    "FROM a\nRUN <<$A\nhi\n$A\n",
    'FROM a\nRUN ["<<EOF"]\nRUN next\n',
    "FROM a\nRUN a \\\n <<EOF\nhi\nEOF\n",
    "FROM a\nRUN <<EOF\na \\\n# kept\n\nb\nEOF\n",
    "FROM a\nRUN --network=none <<EOF\nhi\nEOF\n",
    "FROM a\nRUN --mount=type=cache,target=/c <<EOF bash\nhi\nEOF\n",
    "FROM a\nCOPY <<EOF /x\nhi $A\nEOF\n",
    "FROM a\nCOPY <<'EOF' /x\nhi $A\nEOF\n",
    "FROM a\nCOPY <<-EOF /x\n\thi $A\n\tEOF\n",
    "FROM a\nCOPY <<a.txt <<b.txt c /x/\na\na.txt\nb\nb.txt\n",
    "FROM a\nCOPY a <<EOF\nhi\nEOF\n",
    "FROM a\nCOPY <<EOF\nhi\nEOF\n",
    "FROM a\nCOPY <<EOF /x\nhi\n",
    'FROM a\nCOPY ["<<EOF", "/x"]\nRUN next\n',
    "FROM a\nADD <<EOF /x\nhi\nEOF\n",
    "FROM a\nADD --chmod=755 <<EOF /x\nhi\nEOF\n",
    "FROM a\nCOPY <<EOF /x\n\"quoted\" 'text' \\$A \\\\ ${A:-d} ${NOPE:-d}\nEOF\n",
    "FROM a\nCOPY <<EOF /x\n${unclosed\nEOF\n",
    "FROM a\nONBUILD RUN <<EOF\nhi\nEOF\n",
    "FROM a\nONBUILD COPY <<EOF /x\nhi\nEOF\n",
    "FROM a\nENV A <<EOF\nRUN next\n",
    "FROM a\nCMD <<EOF\nRUN next\n",
    "FROM a AS x\nFROM x AS y\nCOPY --from=X a b\n",
    "FROM a\nENV A=1 \\\n    B=2 \\\n\n    C=3\n",
    "FROM a\nLABEL a=1 \\\n# c\n b=2\n",
    "FROM a\nRUN a\x0bb\x0cc\n",
    "FROM a\nENV ÄÖ=ü\nRUN echo ${ÄÖ} 漢字\n",
    "FROM\ta\nRUN\tx\n",
    "FROM a\nEXPOSE 80  443\t53\n",
    "from a as b\nrun x\ncopy --from=b c d\n",
]

DOCKERFILES = [
    *(f"FROM a\n{body}\n" for body in _BODIES.strip("\n").split("\n")),
    *_WHOLE,
]

_WORDS = r"""
plain
$A
${A}
x$A.y
${A}x
$Ax
$
$$
$.
a$
${
${}
${A
${:x}
${{A}}
${A}}
$NOPE
${NOPE}x
${A-d}
${NOPE-d}
${EMPTY-d}
${A:-d}
${NOPE:-d}
${EMPTY:-d}
${A+p}
${NOPE+p}
${EMPTY+p}
${A:+p}
${NOPE:+p}
${EMPTY:+p}
${A?e}
${NOPE?e}
${NOPE?}
${EMPTY?e}
${A:?e}
${NOPE:?e}
${EMPTY:?e}
${A:=d}
${A=d}
${A:x}
${A^}
${A,,}
${A:0:1}
${#A}
${!A}
${NOPE:-$A}
${NOPE:-${A}}
${NOPE:-${ALSO:-${B}}}
${A:+${B}}
${NOPE:-a}b}
${NOPE:-"a}b"}
${NOPE:-'a}b'}
${NOPE:-a\}b}
${NOPE:-a b}
${NOPE:-'$A'}
${NOPE:-"$A"}
${NOPE:-\$A}
"$A"
'$A'
"a'$A'b"
'a"$A"b'
"a\"b"
'a\"b'
'a\'
"a\$A"
"a\\b"
"a\nb"
a\$A
a\\$A
a\'b
a\"b
a\ b
a\
"unclosed
'unclosed
"a"b'c'$A
""
''
a"b c"d
$A $B
"$B"
$1
${10}
$10x
$@
${@:-x}
$?
$#
${FILE#*.}
${FILE##*.}
${FILE%.*}
${FILE%%.*}
${FILE#arch}
${FILE#x}
${FILE%gz}
${FILE%x}
${FILE#}
${FILE%}
${FILE#?}
${FILE%??}
${FILE##*}
${FILE%%*}
${PATH#*:}
${PATH##*/}
${PATH%/*}
${PATH%%:*}
${URL#*//}
${URL##*/}
${NOPE#x}
${EMPTY%x}
${STARS#a\*}
${STARS%\?c}
${STARS#a[*]}
${STARS#\a}
${FILE#"a"}
${FILE#$A}
${FILE%.$NOPE}
${LINES#*o}
${LINES##*}
${LINES%?two}
${FILE/a/X}
${FILE//a/X}
${FILE/./-}
${FILE//./-}
${FILE/x/y}
${FILE/a*e/X}
${FILE//?r/X}
${FILE/a/}
${FILE//a/}
${FILE/a}
${FILE//a}
${FILE/}
${FILE///}
${FILE//}
${PATH//:/ }
${PATH//\//-}
${PATH/\/usr/\/opt}
${URL/https/http}
${URL//[a-z]/X}
${NOPE/a/b}
${EMPTY//a/b}
${FILE/$A/b}
${FILE/a/$B}
${FILE/a/${A}}
${FILE/a/b
${A:-${B}
${A:#x}
${A:%x}
$ÄÖ
${ÄÖ}
$_u1
$A-$A
${A}${B}
~/x
a=$A
$QUOTED
"$QUOTED"
'$QUOTED'
a<b
a<<b
a<< b
`$A`
a`$A
"`""
"""

WORDS = [
    *((word, "\\") for word in _WORDS.strip("\n").split("\n")),
    *((word, "`") for word in _WORDS.strip("\n").split("\n") if "\\" in word or "`" in word),
    ("", "\\"),
    ("  spaced   words  ", "\\"),
]

_PATHS = """
a.md b.txt README.md docs docs/a.md docs/b/c.md docs/b/c.txt src src/main.c src/x/y.o src/x/.hidden node_modules
node_modules/p/index.js .git .git/config .env .env.local a/b/c/d.tmp tmp tmp/x foo foobar foo/bar foo/bar/baz a-b a+b a(b)
a[1] x/README.md .dockerignore Dockerfile
"""
PATHS = _PATHS.split()

IGNORE_FILES = [
    "",
    "# comment\n",
    "*.md",
    "*.md\n!README.md",
    "docs/*\n!docs",
    "**/*.md\n!docs",
    "!README.md\n*.md",
    "**/*.md",
    "**/*.md\n!docs/**",
    "docs",
    "docs/",
    "/docs",
    "./docs",
    "docs/*",
    "docs/*\n!docs/b",
    "docs/**",
    "docs/**/c.md",
    "**/c.md",
    "**",
    "*",
    "*\n!src",
    "*\n!src/\nsrc/x",
    "**\n!**/*.md",
    "*/*",
    "*/*/*",
    "?oo",
    "foo?",
    "foo",
    "foo*",
    "**foo",
    "**/foo",
    "foo**",
    "**/foo/**",
    "a/**/d.tmp",
    "a/**",
    "**/b/**",
    ".*",
    ".git",
    ".env*",
    "**/.hidden",
    "[a-c].md",
    "[^a].txt",
    "a[[]1]",
    r"a\[1]",
    "[a",
    "[]",
    "[]a]",
    "[a-]",
    "[-a]",
    "[^]",
    "a\\",
    "a+b\na(b)",
    "  *.md  \n\n  docs  ",
    "*.md\r\ndocs\r\n",
    "\ufeff*.md",
    "!",
    "!\n*.md",
    "! README.md",
    "*.md\n! README.md",
    "#not-comment\n #space\n*.txt",
    ".",
    "..",
    "../x",
    "/",
    "//docs",
    "docs//b",
    "docs/../src",
    "docs/./b",
    "node_modules\n!node_modules/p/index.js",
    "foo\n!foo/bar\nfoo/bar/baz",
    "*\n!foo\nfoo/bar\n!foo/bar/baz",
    "src/*.c\nsrc/**/*.o",
    "$x^",
    "{a,b}.md",
]

GLOBS = [
    (pattern, path)
    for pattern in (
        "*",
        "*.md",
        "a*",
        "?",
        "a?c",
        "[abc]",
        "[a-c]x",
        "[^a-c]x",
        "a/b",
        "a/*",
        "*/b",
        "*/*",
        "a\\*",
        "a\\[b",
        "[\\]]",
        "[a",
        "a]",
        "[]",
        "[z-a]",
        "*a*b*",
        "**",
        "a**b",
        "",
    )
    for path in (
        "a",
        "a.md",
        "abc",
        "ax",
        "dx",
        "a/b",
        "a/b.md",
        "a*",
        "a[b",
        "]",
        "a]",
        "aXbXb",
        "",
    )
]

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORIES = [
    *(f"https://h.test/a/b.git{rest}" for rest in (
        "", "#", "#v1", "#v1:", "#v1:docs", "#:docs", "#:/docs/", "#:a/../b", "#:../../etc", "#a/b:c:d", "#:.",
        "?ref=v1", "?tag=v1", "?tag=refs/tags/v1", "?branch=main", "?branch=refs/heads/main", "?ref=refs/heads/x",
        "?subdir=x", "?subdir=/x/", "?subdir=a/../b", "?ref=v1&subdir=x", "?ref=a&ref=b", "?ref=a&ref=a", "?ref=", "?subdir=", "?tag=",
        "?tag=a&branch=b", "?tag=a&ref=a", "?ref=refs/tags/a&tag=a", "?branch=a&ref=refs/heads/a", "?ref=a#a", "?ref=a#b", "?subdir=a#:a",
        "?subdir=a#:b", "?tag=v1#refs/tags/v1", "?tag=v1#v1",
        f"?commit={_COMMIT}", f"?checksum={_COMMIT}", f"?ref=v1&commit={_COMMIT[:7]}", "?commit=",
        "?keep-git-dir", "?keep-git-dir=", "?keep-git-dir=true", "?keep-git-dir=1", "?keep-git-dir=T", "?keep-git-dir=0", "?keep-git-dir=x",
        "?submodules", "?submodules=false", "?submodules=F", "?submodules=no", "?mtime=commit", "?mtime=checkout", "?mtime=now", "?mtime=",
        "?fetch-by-commit", "?fetch-by-commit=x", "?reff=x", "?ref=%76%31", "?ref=a+b", "?ref=a&x",
    )),
    "http://h.test/a.git", "HTTPS://h.test/a.git", "https://h.test/a", "https://h.test/a.git/", "https://h.test/a.git.tar", "https://h.test/a?x=b.git", "https://u@h.test/a.git",
    "git://h.test/a", "git://h.test/a.git#v1:x", "ssh://git@h.test/a", "ssh://git@h.test:22/a.git?ref=v1", "ftp://h.test/a.git", "file:///a.git",
    "git@h.test:a/b.git", "git@h.test:a/b", "git@h.test:a/b.git#v1:docs", "git@h.test:a/b.git?ref=v1", "me@h.test:a", "me@home/x", "h.test:a/b.git",
    "a.git", "./a.git", "../a.git", "/a.git", "a", "", "-",
]  # fmt: skip
