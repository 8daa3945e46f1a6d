"""Write the tables of docs/conventions.md from the conventions in the code: python docs/make_conventions.py [--check]

Time, sign, scale, path and label are read from each Convention. Which channels a project guides, and the test that
holds a convention to it, stand here. tests/test_conventions_page.py asks whether a convention is missing, and whether
the page is what this script writes.
"""

import sys
from pathlib import Path

from flowscope.networks import CONVENTIONS, Convention
from flowscope.networks.diffusers import FLOW_MATCHING, FLOW_PREDICTIONS, TRANSFORMERS

PAGE = Path(__file__).resolve().parent / "conventions.md"
BEGIN, END = "<!-- written by docs/make_conventions.py: begin -->", "<!-- end -->"
PREDICTS = {
    ("velocity", 1.0): "x1 - x0",
    ("velocity", -1.0): "x0 - x1",
    ("noise", 1.0): "noise",
    ("data", 1.0): "data",
    ("v", 1.0): "v",
}
PATHS = {"ddpm": "DDPM's linear betas", "ve": "levels 80 to 0.002"}
TESTED = {  # kind of test: against what, which test, to what error
    "formulas": ("the project's formulas, around the oracle", "test_the_oracle_comes_back_as_the_same_field", "1e-8"),
    "time, sign": (
        "the pipeline's time and sign, around the oracle",
        "test_transformers_of_diffusers_have_the_time_and_the_sign_of_their_pipelines",
        "1e-8",
    ),
    "call": ("the pipeline's call of it", "test_real_transformers_are_called_as_their_pipelines_call_them", "0"),
    "SD3 steps": ("the scheduler's steps with the model", "test_sd3_by_its_scheduler", "1e-5"),
    "FLUX steps": ("the scheduler's steps with the model", "test_flux_by_its_scheduler", "1e-5"),
    "FM solver": (
        "its loss's target, and its ODESolver",
        "test_flow_matching_models_give_the_target_of_its_loss_and_its_samples",
        "1e-9",
    ),
    "CFM loss": ("its loss's target", "test_torchcfm_models_give_the_target_of_its_loss", "1e-9"),
    "loops": (
        "the whole loops of SD3's and FLUX's schedulers",
        "test_the_pipelines_of_sd3_and_flux_are_reproduced",
        "1e-6",
    ),
    "data": (
        "the data that the scheduler makes of a prediction",
        "test_other_predictions_of_schedulers_with_flow_sigmas",
        "1e-5",
    ),
    "DDIM": ("the numbers of diffusers' own tests", "test_ddim_of_diffusers", "1e-5"),
    "levels": (
        "the scheduler's own timesteps",
        "test_continuous_timesteps_of_a_scheduler_are_a_quarter_of_the_log_level",
        "1e-5",
    ),
}
TEXT, ALL, FIRST, NONE = "by its text", "all", "0 to 2", "no sampler"
ROWS = {  # by convention: models, channels that the project guides, kind of test
    "flowscope": ("`flowscope train`", ALL, "formulas"),
    "sit": ("SiT", FIRST, "formulas"),
    "lightningdit": ("LightningDiT", FIRST, "formulas"),
    "dit": ("DiT, original code", FIRST, "formulas"),
    "repa": ("REPA", ALL, "formulas"),
    "flow_matching": ("flow_matching", NONE, "FM solver"),
    "torchcfm": ("torchcfm", NONE, "CFM loss"),
    "edm": ("EDM, EDM2", ALL, "formulas"),
    "sd3": ("SD3", ALL, "SD3 steps"),
    "flux": ("FLUX", ALL, "FLUX steps"),
    "wan": ("Wan", ALL, "call"),
    "cogview4": ("CogView4", ALL, "time, sign"),
    "hunyuan image": ("HunyuanImage", ALL, "time, sign"),
    "sana": ("Sana (times `timestep_scale`)", ALL, "call"),
    "chroma": ("Chroma", ALL, "time, sign"),
    "flux.2": ("FLUX.2", ALL, "time, sign"),
    "qwen image": ("QwenImage", ALL, "time, sign"),
    "auraflow": ("AuraFlow", ALL, "time, sign"),
    "prx": ("PRX", ALL, "time, sign"),
    "lumina 2": ("Lumina 2", ALL, "call"),
    "z-image": ("Z-Image", ALL, "call"),
    "hidream": ("HiDream", ALL, "time, sign"),
    "diffusers flow matching": ("flow matching of diffusers", ALL, "loops"),
    "diffusers flow epsilon": ("flow sigmas, epsilon", ALL, "data"),
    "diffusers flow sample": ("flow sigmas, sample", ALL, "data"),
}
BY_SCHEDULER = (  # conventions that are made of a scheduler's table: as the columns below
    (
        "DDIM, DDPM, Euler, UniPC, ...",
        "`diffusers`",
        "0 to 999",
        "noise, data or v",
        "its betas",
        ALL,
        "`null=`",
        "DDIM",
    ),
    ("continuous timesteps", "`diffusers`", "log(sigma/alpha)/4", "v", "its betas", ALL, "`null=`", "levels"),
)
HEAD = ("model", "convention", "timestep given", "predicts", "trained on", "guides channels", "no label", "tested")
HEAD_OF_TESTS = ("tested", "against", "by", "error")


def all_conventions() -> dict[str, Convention]:
    """Every ready convention by its name."""
    found = [*CONVENTIONS.values(), *TRANSFORMERS.values(), FLOW_MATCHING, *FLOW_PREDICTIONS.values()]
    return {convention.name: convention for convention in found}


def timestep(convention: Convention) -> str:
    """What the network is given, in flowscope's t."""
    if convention.clock != "time":
        return "sigma/alpha"
    own = "1 - t" if convention.reverse else "t"
    if convention.scale == 1:
        return own
    return f"{convention.scale:g} ({own})" if convention.reverse else f"{convention.scale:g} {own}"


def null_of(convention: Convention) -> str:
    """The label that stands for none."""
    if convention.name in CONVENTIONS and convention.last_is_null:
        return "a row of zeros" if convention.clock == "sigma" else "number of classes"
    return TEXT if convention in TRANSFORMERS.values() else "`null=`"


def row(convention: Convention) -> tuple[str, ...]:
    """The cells of a convention."""
    models, guided, tested = ROWS[convention.name]
    name = f"`{convention.name}`" if convention.name in CONVENTIONS else "`diffusers`"
    path = PATHS.get(str(convention.path), str(convention.path))
    predicts = PREDICTS[convention.prediction, convention.sign]
    return models, name, timestep(convention), predicts, path, guided, null_of(convention), tested


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table as Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ("---",) * len(head), *rows])


def tables() -> str:
    """Both tables: the conventions, and the tests that they name."""
    conventions = markdown(HEAD, [*map(row, all_conventions().values()), *BY_SCHEDULER])
    tests = [(kind, against, f"`{test}`", error) for kind, (against, test, error) in TESTED.items()]
    return f"{conventions}\n\n{markdown(HEAD_OF_TESTS, tests)}"


def page() -> str:
    """The page with the tables of today."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    new = page()
    if "--check" in sys.argv:
        sys.exit(new != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(new, encoding="utf-8")
