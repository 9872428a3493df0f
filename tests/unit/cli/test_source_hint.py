import pytest

from hakobune.cli.source_hint import Advice, calls, find_advice


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            'app.run(host="127.0.0.1", port=5000)',
            'app.run(host="0.0.0.0", port=int(os.environ["PORT"]))',
        ),
        (
            "app = Flask(__name__)\napp.run(debug=True)",
            'app.run(debug=True, host="0.0.0.0", port=int(os.environ["PORT"]))',
        ),
        (
            "shop = flask.Flask('x')\nshop.run()",
            'shop.run(host="0.0.0.0", port=int(os.environ["PORT"]))',
        ),
        (
            'uvicorn.run("main:app")',
            'uvicorn.run(\'main:app\', host="0.0.0.0", port=int(os.environ["PORT"]))',
        ),
        (
            'uvicorn.run(app, host="0.0.0.0", port=8000)',
            "uvicorn.run(app, host='0.0.0.0', port=int(os.environ[\"PORT\"]))",
        ),
        (
            'web.run_app(app, host="localhost", port=port)',
            'web.run_app(app, host="0.0.0.0", port=int(os.environ["PORT"]))',
        ),
        (
            'HTTPServer(("127.0.0.1", 5000), Handler).serve_forever()',
            'HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler)',
        ),
    ],
)
def test_a_call_that_listens_on_loopback_or_a_fixed_port_is_shown_as_it_should_be(text, code):
    (advice,) = calls("main.py", text)

    assert advice.code == code
    assert advice.line == text.count("\n") + 1


@pytest.mark.parametrize(
    "text",
    [
        "asyncio.run(main())",
        "subprocess.run(['x'])",
        'app.run(host="0.0.0.0", port=int(os.environ["PORT"]))',
        'HTTPServer(("", port), Handler)',
        "this is not python",
        "HTTPServer(address, Handler)",
    ],
)
def test_a_call_that_may_be_right_is_left_alone(text):
    assert list(calls("main.py", text)) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("app.listen(3000)", 'app.listen(process.env.PORT, "0.0.0.0")'),
        ('server.listen(3000, "127.0.0.1");', 'server.listen(process.env.PORT, "0.0.0.0")'),
        (
            "app.listen(3000, () => console.log('up'));",
            "app.listen(process.env.PORT, \"0.0.0.0\", () => console.log('up'))",
        ),
    ],
)
def test_a_fixed_port_in_javascript_is_found(text, code):
    (advice,) = calls("server.js", text)

    assert advice.code == code


def test_a_call_with_the_port_that_was_seen_wins():
    sources = {
        "a.py": 'x.run(host="127.0.0.1", port=9999)',
        "deep/b.py": 'x.run(host="127.0.0.1", port=5000)',
    }

    found = find_advice(sources, {5000})

    assert isinstance(found, Advice)
    assert (found.path, found.line, found.port) == ("deep/b.py", 1, 5000)
    assert find_advice({"a.py": "print(1)"}, {5000}) is None
