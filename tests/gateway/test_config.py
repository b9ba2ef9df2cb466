from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossmatch.errors import ConfigError
from gateway.config import as_dict, default_toml, load


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mmgateway.toml"
    path.write_text(text)
    return path


def test_template_and_defaults_are_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, default_toml())
    assert as_dict(load(path, {}))["kafka"] == as_dict(load(None, {}))["kafka"]


def test_environment_goes_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[kafka]\nport = 1000\nbootstrap = "file:1"\n')
    config = load(path, {"MMGATEWAY_KAFKA__BOOTSTRAP": "env:2", "MMGATEWAY_CONFIG": "ignored"})
    assert (config.kafka.port, config.kafka.bootstrap) == (1000, "env:2")


def test_secrets_are_masked_and_not_in_repr(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[gcn]\nclient_secret = "hush"\n[kafka]\nproperties = {"sasl.password" = "hush"}\n',
    )
    config = load(path, {})
    assert "hush" not in json.dumps(as_dict(config))
    assert "hush" not in repr(config)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kafka]\nprot = 1\n", ["[kafka] prot", "known", "port"]),
        ("[kavka]\nport = 1\n", ["[kavka]", "known", "kafka"]),
        ('[kafka]\nport = "many"\n', ["[kafka] port", "expected int"]),
        ("[kafka]\nport = 70000\n", ["70000", "not a port"]),
        ("[kafka\n", ["not valid TOML"]),
        ("[gcn]\nenabled = true\n", ["client_id", "gcn.nasa.gov"]),
        ('[vtp]\nremotes = ["nowhere"]\n', ["nowhere", "host:port"]),
        ("[chains.grb]\nlevel = 1.5\n", ["[chains.grb] level", "(0, 1]"]),
    ],
)
def test_mistakes_are_named_with_place_and_remedy(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), {})
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
