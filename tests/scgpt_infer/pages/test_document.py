"""The frame of all pages."""

from scgpt_infer.pages import document


def test_a_page_without_a_script_lets_none_run():
    told = document("a <b> title", ["<p>one</p>", "<p>two</p>"], style=".mine {}")
    assert "<title>a &lt;b&gt; title</title>" in told
    assert "default-src 'none'" in told
    assert "script" not in told
    assert ".mine {}" in told
    assert told.index("<p>one</p>") < told.index("<p>two</p>")


def test_it_reads_on_a_phone_in_the_dark():
    told = document("title", [])
    assert "width=device-width" in told
    assert "prefers-color-scheme: dark" in told
