"""The page that is handed on: its figures are those of the rooms that made them, its checks see what is planted, and it opens anywhere."""
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import small
from scipy import stats

from genmod_nb.baselines import Bootstrap, GaussianCopula, Truth
from genmod_nb.cards import card
from genmod_nb.checks import membership_attack, permutation_p, shared_rows
from genmod_nb.cli import load, main
from genmod_nb.data import simulate_losses
from genmod_nb.ensemble import Ensemble
from genmod_nb.gan import GAN
from genmod_nb.many import fit_many
from genmod_nb.metrics import scorecard, tail_error
from genmod_nb.pages import page, write_card
from genmod_nb.risks import risk
from genmod_nb.store import Store
from genmod_nb.tables import table_digest
from genmod_nb.vae import VAE

ROOT = Path(__file__).parents[1]
QUICK = dict(reps=20, permutations=9, n_samples=20_000, progress=False)


class Tables(HTMLParser):
    """{label: [{column: text}]} of the tables of a page."""
    def __init__(self, text):
        super().__init__()
        self.tables, self.label, self.cells, self.inside = {}, None, [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "div" and "aria-label" in a:
            self.label = a["aria-label"]
        if tag == "tr":
            self.tables.setdefault(self.label, []).append([])
        if tag in ("td", "th"):
            self.tables[self.label][-1].append("")
        self.inside = tag in ("td", "th") or self.inside and tag not in ("tr", "table")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.tables[self.label][-1][-1] += data

    def rows(self, label):
        head, *rows = self.tables[label]
        return [dict(zip(head, row)) for row in rows]


@pytest.fixture(scope="module")
def made(tables):
    """(model, held-out rows, training rows, the facts of their card)."""
    train, real = tables
    model = GaussianCopula().fit(train)
    return model, real, train, card(model, real, train, risk_of=dict(levels=(0.9, 0.99), n_samples=10_000), random_state=3, **QUICK)


# ------------------------------------------------------------------ figures
def test_the_page_shows_what_the_rooms_have_measured(made):
    model, real, train, facts = made
    shown = Tables(page(facts))
    scores = scorecard(real, model.sample(len(real), random_state=3), train, reps=20, random_state=3, progress=False)
    titles = {"value": "value", "floor": "floor", "floor_95": "limit", "training": "training rows", "training_95": "their limit"}
    assert [r["score"] for r in shown.rows("scores")] == list(scores.index)
    for row in shown.rows("scores"):
        assert row["met"] == {True: "yes", False: "no"}[scores.met[row["score"]]]
        for column, title in titles.items():
            assert float(row[title]) == pytest.approx(scores[column][row["score"]], rel=1e-3, abs=1e-12), (row, column)
    money = risk(model, levels=(0.9, 0.99), n_samples=10_000, random_state=3)
    assert len(shown.rows("risk")) == len(money) == 10
    for row, own in zip(shown.rows("risk"), money.to_dict("records")):
        assert row["position"] == own["position"]
        for column in ("level", "var", "var_error", "es", "es_error"):
            assert float(row[column.replace("_", " ")]) == pytest.approx(own[column], rel=1e-5)
    p = permutation_p(real, model.sample(len(real), random_state=3), train, 9, 3, False)
    assert {r["score"]: float(r["p"]) for r in shown.rows("scores") if r["p"]} == pytest.approx(dict(p))
    assert f"{facts['membership']['auc']:.3f}" in page(facts)
    tails = {(r["column"], float(r["level"])): r for r in shown.rows("tails")}
    draws = model.sample(20_000, random_state=3)
    assert float(tails["f2", 0.99]["model"]) == pytest.approx(draws.f2.quantile(0.99), rel=1e-3)
    assert float(tails["f2", 0.9]["held-out rows"]) == pytest.approx(np.quantile(real.f2, 0.9, method="inverted_cdf"), rel=1e-3)
    assert tails["f2", 0.999]["to"] == ""          # 537 rows do not reach


def test_risk_with_intervals(made, monkeypatch):
    model, real, train, _ = made
    asked = dict(levels=0.9, n_samples=2000, intervals=20)
    shown = Tables(page(card(model, real, train, risk_of=asked, random_state=3, **QUICK))).rows("risk")
    own = risk(model, X=train, random_state=3, progress=False, **asked)
    assert [r["position"] for r in shown] == list(own.position)
    for row, money in zip(shown, own.to_dict("records")):
        for column in ("var_low", "var_high", "es_low", "es_high"):
            assert float(row[column.replace("_", " ")]) == pytest.approx(money[column], rel=1e-5)
        assert money["var_low"] < money["var"] < money["var_high"]
    # what is asked wrongly is refused before anything is measured
    monkeypatch.setattr("genmod_nb.cards.scorecard", lambda *a, **k: pytest.fail("measured"))
    with pytest.raises(ValueError, match="20 refits or more"):
        card(model, real, train, risk_of=dict(intervals=3), **QUICK)


def test_the_same_twice_and_through_a_file(made, tmp_path):
    model, real, train, facts = made
    files = write_card(tmp_path / "card.html", facts)
    assert [f.name for f in files] == ["card.html", "card.json"] and json.loads(files[1].read_text()) == facts
    again = card(load(model.save(tmp_path / "m")), real, train, risk_of=dict(levels=(0.9, 0.99), n_samples=10_000), random_state=3, **QUICK)
    assert page(again) == page(facts) == files[0].read_text(encoding="utf-8")


def test_the_chapter_documents_every_key(made):
    cells = json.loads((ROOT / "nbs" / "56_cards.ipynb").read_text(encoding="utf-8"))["cells"]
    text = next(t for c in cells if "| key | of |" in (t := "".join(c["source"])))
    told = {k: (kind, what) for k, kind, what in re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", text, flags=re.M)}
    facts = made[-1]
    kinds = {dict: "object", list: "list", int: "number"}
    assert {k: kinds[type(v)] for k, v in facts.items()} == {k: kind for k, (kind, _) in told.items()}
    for key, value in facts.items():
        for one in value if isinstance(value, list) else [value]:
            for name in one if isinstance(one, dict) and key != "risk" else ():
                assert f"`{name}`" in told[key][1], (key, name)


def test_names_of_columns_are_no_html(tables, tmp_path):
    train, real = (t.set_axis(["<script>alert(1)</script>", "a & b", "$f3", "f4"], axis=1) for t in tables)
    text = page(card(GaussianCopula().fit(train), real, train, risk_of=dict(levels=0.9, n_samples=1000), **QUICK))
    assert "<script" not in text and "&lt;script&gt;alert" in text and "$f3" in text
    assert {r["column"] for r in Tables(text).rows("margins")} == set(train)


@pytest.mark.parametrize("kind", [GAN, Bootstrap])
def test_a_card_of_each_kind(kind, tables):
    train, real = tables
    model = kind() if kind is Bootstrap else small(kind)
    facts = card(model.fit(train), real, train, **QUICK)
    assert facts["membership"]["source"] == "neighbours" and facts["risk"] is None
    assert "Risk" not in page(facts) and facts["train"]["digest"] == table_digest(train)


def test_arrays_and_signed_tables(tables):
    train, real = (t.to_numpy() * np.random.default_rng(0).choice([-1, 1], t.shape) for t in tables)
    facts = card(VAE(margins="raw", max_epochs=2, random_state=0, compile=False, progress=False).fit(train), real, train, **QUICK)
    assert facts["train"]["columns"] == ["f1", "f2", "f3", "f4"] and facts["membership"]["source"] == "neighbours" and "tail score" in page(facts)


# ------------------------------------------------------------------ p-values
@pytest.mark.parametrize("digits", [12, 2], ids=["as drawn", "rounded"])
def test_p_values_are_uniform_for_the_truth(digits, full):
    """Each is one of 1/20, ..., 20/20 with equal probability; less a random part of 1/20 it is uniform where scores do not tie."""
    scores, rng = ["anderson_darling", "energy_distance", "tail_error"], np.random.default_rng(0)
    p = []
    for seed in range(200 if full else 60):
        real = simulate_losses(60, seed).round(digits)
        fake = Truth().fit(real).sample(60, random_state=9000 + seed).round(digits)
        p.append(permutation_p(real, fake, permutations=19, random_state=seed, progress=False)[scores])
    p = pd.DataFrame(p)
    for score in scores:
        assert stats.kstest(p[score] - rng.random(len(p)) / 20, "uniform").pvalue > 0.01, score


@pytest.mark.parametrize("digits", [12, 2], ids=["as drawn", "rounded"])
def test_p_values_see_a_wrong_scale(digits):
    real, fake = simulate_losses(300, 0), Truth().fit(simulate_losses(300, 0)).sample(300, random_state=1)
    p = permutation_p(real.round(digits), (1.3 * fake).round(digits), permutations=99, progress=False)
    assert p.anderson_darling <= 0.02 and p.energy_distance <= 0.02


# ------------------------------------------------------------------ the attack
def test_the_attack_finds_nothing_where_nothing_leaks():
    models = Truth(), GaussianCopula(), Bootstrap()
    auc = {type(m).__name__: np.mean([membership_attack(m.fit(simulate_losses(400, 70 + s)), simulate_losses(720, s), simulate_losses(537, 40 + s))["auc"]
                                      for s in range(6)]) for m in models}
    assert all(abs(a - 0.5) < 0.03 for a in auc.values()), auc


@pytest.mark.parametrize("digits", [12, 3], ids=["as drawn", "rounded"])
def test_the_attack_finds_copies_and_what_is_near_them(digits):
    train, real = simulate_losses(720, 0).round(digits), simulate_losses(537, 1).round(digits)

    class Near(Bootstrap):
        """Training rows, each cell off by a few per cent: no copies."""
        def _draw(self, n, rng):
            return super()._draw(n, rng) * np.exp(0.03 * rng.standard_normal((n, 4)))
    Bootstrap.registry.pop("Near", None)
    assert membership_attack(Bootstrap().fit(train), train, real)["auc"] > 0.9
    assert membership_attack(Near().fit(train), train, real)["auc"] > 0.8


# ------------------------------------------------------------------ which rows
def test_a_model_knows_its_rows(tables, tmp_path):
    train, real = tables
    store = Store(tmp_path / "fits.db")
    short = dict(max_epochs=1, random_state=0, compile=False, progress=False)
    fit_many([VAE(**short)], train, n_jobs=1, store=store, progress=False)
    stored, = fit_many([VAE(**short)], train, n_jobs=1, store=store, progress=False)
    models = [VAE(**short).fit(train), stored, Ensemble(members=2, **short).fit(train), Bootstrap().fit(train)]
    for i, model in enumerate(models):
        back = load(model.save(tmp_path / str(i)))
        assert model.digest_ == back.digest_ == table_digest(train)
        for other in (train[:-1], train[::-1], 1.0000001 * train):
            with pytest.raises(ValueError, match="are not those that the model was fitted on"):
                card(back, real, other, **QUICK)
    assert table_digest(train.to_numpy()) == table_digest(train) != table_digest(train.set_axis(list("abcd"), axis=1))


def test_a_file_of_the_format_before(tables, tmp_path):
    train, real = tables
    file = Bootstrap().fit(train).save(tmp_path / "m") / "config.json"
    config = json.loads(file.read_text())
    assert config["format"] == 5
    file.write_text(json.dumps({k: v for k, v in config.items() if k != "digest"} | {"format": 4}))
    model = load(tmp_path / "m")
    assert model.digest_ is None and model.sample(3, random_state=0).equals(Bootstrap().fit(train).sample(3, random_state=0))
    facts = card(model, real, train, **QUICK)
    assert not facts["train"]["vouched"] and any("no digest" in s for s in facts["limits"])
    for odd in ("x" * 64, 7, ["a"]):
        file.write_text(json.dumps(config | {"digest": odd}))
        with pytest.raises(ValueError, match="the digest of the training rows"):
            load(tmp_path / "m")


def test_held_out_rows_are_held_out(tables):
    train, real = tables
    model = Bootstrap().fit(train)
    for bad in (train, train[::-1], train[:300], pd.concat([real, train[:30]])):
        with pytest.raises(ValueError, match="training rows"):
            card(model, bad, train, **QUICK)
    assert shared_rows(train, real)[0] <= 1
    for digits in (2, 3):       # what ties share by themselves is no mistake
        for seed in range(20):
            a, b = simulate_losses(720, seed).round(digits), simulate_losses(537, 100 + seed).round(digits)
            shared, limit = shared_rows(a, b)
            assert shared <= limit
    with pytest.raises(ValueError, match="these are the training rows"):
        shared_rows(a.round(1), a.round(1)[::-1])


# ------------------------------------------------------------------ the command, and a browser
def test_the_command(made, tmp_path, capsys):
    model, real, train, _ = made
    model.save(tmp_path / "m")
    for name, t in (("train", train), ("real", real)):
        t.to_csv(tmp_path / f"{name}.csv")
    call = ["card", str(tmp_path / "m"), "--out", str(tmp_path / "card.html"), "--train", str(tmp_path / "train.csv"), "--quiet", "--real"]
    assert main([*call, str(tmp_path / "train.csv")]) == 2 and "these are the training rows" in capsys.readouterr().err
    assert not (tmp_path / "card.html").exists()
    assert main([*call, str(tmp_path / "real.csv")]) == 0
    facts = json.loads((tmp_path / "card.json").read_text())
    assert facts["train"]["digest"] == model.digest_ and facts["how"]["permutations"] == 199


@pytest.mark.skipif(not shutil.which("node") or not (ROOT / "node_modules").is_dir(), reason="npm is not there")
def test_it_opens_anywhere(tables, tmp_path):
    """No request, no message, no overflow, light and dark, narrow and wide, on paper; with long names too."""
    names = ["a", "losses of the windscreens of the north-east", "γ", "f4"]
    train, real = (t.set_axis(names, axis=1) for t in tables)
    facts = card(VAE(max_epochs=2, random_state=0, compile=False, progress=False).fit(train), real, train, risk_of=dict(
        levels=(0.95, 0.99), n_samples=1000), **QUICK)
    write_card(tmp_path / "card.html", facts)
    done = subprocess.run(["node", ROOT / "tests" / "card.mjs", tmp_path / "card.html"], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("no Chromium")
    assert json.loads(done.stdout) == {}, done.stdout + done.stderr
    # the checks see what is wrong
    text = (tmp_path / "card.html").read_text(encoding="utf-8")
    worse = text.replace("</main>", '<img src="https://example.org/x.png"><p style="width: 3000px">wide</p></main>')
    (tmp_path / "card.html").write_text(worse, encoding="utf-8")
    done = subprocess.run(["node", ROOT / "tests" / "card.mjs", tmp_path / "card.html"], capture_output=True, text=True)
    assert {"requests", "width", "paper", "accessibility"} <= set(json.loads(done.stdout)), done.stdout


# ------------------------------------------------------------------ what is told of a model
def test_what_a_model_does_not_do_is_not_said_of_it(tables):
    """No family where no margin was fitted, no extrapolation beyond an end, no shape of too few excesses."""
    train, real = (t.assign(f4=t.f4.clip(upper=t.f4.quantile(0.8))) for t in tables)
    facts = card(Bootstrap().fit(train), real, train, **QUICK)
    assert {m["family"] for m in facts["margins"]} == {"none"} and not facts["model"]["keeps_margins"]
    assert not any("extrapolation" in s for s in facts["limits"]) and "none was fitted" in page(facts)
    facts = card(GaussianCopula().fit(train), real, train, **QUICK)
    assert facts["margins"][3]["end"] == train.f4.max() and facts["margins"][0]["end"] is None
    (far,) = [s for s in facts["limits"] if "extrapolation" in s]
    assert "f1 beyond" in far and "f4 beyond" not in far and facts["model"]["keeps_margins"]
    facts = card(GaussianCopula(upper={"f1": 50}).fit(train), real, train, **QUICK)
    assert facts["margins"][0]["end"] == 50 and any("f1 beyond" in s for s in facts["limits"])
    plain = Ensemble(members=2, max_epochs=1, calibrated=False, random_state=0, compile=False, progress=False).fit(train)
    plain.set_params(calibrated=True)
    facts = card(plain, real, train, **QUICK)
    assert not facts["model"]["keeps_margins"] and any("only approximately" in s for s in facts["limits"])
    few, seen = train[:60], real[:60]
    facts = card(GaussianCopula().fit(few), seen, few, **QUICK)
    assert all((m["shape"] is None) == (m["shape_low"] is None) for m in facts["margins"])
    assert not any((m["shape_low"], m["shape_high"]) == (-0.5, 1.5) for m in facts["margins"])


def test_arguments_are_those_of_the_fit(tables):
    train, real = tables
    model = VAE(max_epochs=1, latent_dim=3, random_state=0, compile=False, progress=False).fit(train)
    before = card(model, real, train, **QUICK)
    model.set_params(latent_dim=8, upper={"f4": 1.0})
    after = card(model, real, train, **QUICK)
    assert before == after and after["model"]["arguments"]["latent_dim"] == 3 and after["margins"][3]["upper"] is None


def test_the_risk_says_what_it_is_of(tables):
    train, real = tables
    facts = card(GaussianCopula().fit(train), real, train, risk_of=dict(weights={"f1": 2, "f2": 0.5}, levels=0.9, n_samples=3000), **QUICK)
    assert facts["risk_of"] == dict(weights={"f1": 2, "f2": 0.5}, levels=0.9, n_samples=3000, intervals=0, random_state=0)
    text = page(facts)
    again = card(GaussianCopula().fit(train), real, train, risk_of=dict(weights=pd.Series([2, 0.5, 0, 0]), levels=pd.Index([0.9]), n_samples=3000), **QUICK)
    assert again["risk_of"]["weights"] == [2, 0.5, 0, 0] and again["risk_of"]["levels"] == [0.9]
    assert "3,000 draws" in text and "&quot;f1&quot;: 2" in text and "refits" not in text


# ------------------------------------------------------------------ tables of other forms
def test_a_rare_loss_that_half_of_the_rows_lack(tables):
    """Few held-out rows with a loss in a column: the reference half may have none, and the attack goes by neighbours."""
    train, real = tables
    train = train.assign(f4=np.where(np.arange(len(train)) % 7 == 0, train.f4, 0))
    real = real[:100].assign(f4=np.where(np.arange(100) < 2, real.f4[:100], 0))
    model, seen = GaussianCopula().fit(train), set()
    for seed in range(8):
        found = membership_attack(model, train, real, seed)
        seen.add(found["source"])
        assert 0.3 < found["auc"] < 0.7
    assert seen == {"density", "neighbours"}
    raw = VAE(margins="raw", max_epochs=2, random_state=0, compile=False, progress=False).fit(train)
    assert (raw.sample(1000, random_state=0) < 0).any(axis=None)
    assert all(0 < membership_attack(raw, train, real, seed)["auc"] < 1 for seed in range(8))


def test_p_values_of_scores_that_are_infinite():
    """One positive cell among the generated rows makes the tail error of any labels infinite: none is worse than another."""
    X = simulate_losses(120, 0).assign(f3=0.0)
    X.iloc[-1, 2] = 0.1
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.isinf(tail_error(X[:60], X[60:]))
        p = permutation_p(X[:60], X[60:], permutations=19, progress=False)
    assert p.tail_error > 0.2


def test_dollars_are_no_formula(tables):
    for names in (["fire ($)", "hail ($)", "a_$_b", "c_$_d"], ["$x$", "$\\frac$", "f3", "f4"]):
        train, real = (t.set_axis(names, axis=1) for t in tables)
        facts = card(GaussianCopula().fit(train), real, train, **QUICK)
        text = page(facts)
        assert all(f">{s}<" in re.sub(r"\s+", " ", text).replace("> ", ">") for s in (names[0], f"{names[1]} large, given {names[0]}"))


def test_columns_of_numbers_and_in_another_order(tables):
    train, real = tables
    model = GaussianCopula().fit(train.set_axis(range(4), axis=1))
    facts = card(model, real.set_axis(list("0123"), axis=1), train.set_axis(list("0123"), axis=1), **QUICK)
    assert facts["scores"] == card(model, real.set_axis(range(4), axis=1), train.set_axis(range(4), axis=1), **QUICK)["scores"]
    bare = GaussianCopula().fit(train.to_numpy())
    with pytest.raises(ValueError, match="bring them into that order"):
        card(bare, real[["f4", "f3", "f2", "f1"]], train, **QUICK)


def test_tables_on_a_disk_and_arrays(tables, tmp_path):
    """The same facts from a `Dataset`, and from arrays for a model that was fitted with names."""
    import pyarrow.dataset
    train, real = tables
    for name, t in (("train", train), ("real", real)):
        (tmp_path / name).mkdir()
        t.reset_index(drop=True).to_parquet(tmp_path / name / "x.parquet")
    model = GaussianCopula().fit(train)
    facts = card(model, real, train, **QUICK)
    assert facts == card(model, *(pyarrow.dataset.dataset(tmp_path / k) for k in ("real", "train")), **QUICK)
    assert membership_attack(model, train.to_numpy(), real.to_numpy()) == membership_attack(model, train, real)
    fake = model.sample(len(real), random_state=0)
    names = ["f4", "f2", "f1", "f3"]
    train[names].reset_index(drop=True).to_parquet(tmp_path / "other.parquet")
    p = [permutation_p(real, fake, t, 9, progress=False) for t in (train, pyarrow.dataset.dataset(tmp_path / "other.parquet"))]
    assert p[0].equals(p[1])


def test_without_floors(tables):
    train, real = tables
    facts = card(GaussianCopula().fit(train), real, train, **QUICK | dict(reps=0))
    assert "smallest of" in page(facts)


def test_many_rows_are_judged_by_some(monkeypatch, tables):
    monkeypatch.setattr("genmod_nb.cards.JUDGED", 100)
    train, real = tables
    facts = card(GaussianCopula().fit(train), real, train, **QUICK)
    assert facts["real"]["judged"] == 100 and facts["real"]["rows"] == 537 and facts["membership"]["members"] == 100
    assert "Of 100 held-out" in page(facts)
