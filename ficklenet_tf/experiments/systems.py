"""Every system that tags can teach here, as data: what it changes of a preset's stages, and how its maps come about.

A system is faithful in what makes it that system; sizes, steps and the backbone are the preset's, so that rows differ
in the method. (A preset's steps "auto" are more for hidden layers.) Where it departs from its paper: docs/systems.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError

Changes = Mapping[str, Mapping[str, Any]]  # a stage's name -> its config's fields that differ from the preset's

MAPS = ("one", "erasing", "snapshots")


@dataclasses.dataclass(frozen=True)
class System:
    """One weakly supervised system.

    Attributes:
      title: of its row.
      changes: see `Changes`.
      maps: where a photograph's maps come from: "one" classifier; classifiers of photographs from which the earlier
        ones' regions are erased ("erasing"); or one classifier at several moments of its training ("snapshots").
      rounds: of "erasing".
      published: mIoU on VOC 2012 val, VGG-16, per cent, as its authors have it; None: none, or the row is ours.
      semi: what else changes where masks of some images are learned, too.
      published_semi: as `published`, with 1,464 masks.
      remembered: whether the published figures were not read again.
    """

    title: str
    changes: Changes
    maps: str = "one"
    rounds: int = 1
    published: float | None = None
    semi: Changes = dataclasses.field(default_factory=dict)
    published_semi: float | None = None
    remembered: bool = False

    def figure(self, semi: bool = False) -> float | str | None:
        """Returns the cell of the published figure, `published` or `published_semi`; with a star where remembered."""
        published = self.published_semi if semi else self.published
        return f"{published:g} *" if self.remembered and published is not None else published

    def refusal(self, preset: presets.Preset, semi: bool = False) -> str:
        """Returns why it cannot be run with a preset, or with masks of some images; "" where it can."""
        try:
            changed = self.applied(preset, semi)
        except UserError as error:
            return str(error)
        if self.maps == "erasing" and changed.classifier.erases_in_vain:
            return "it erases pixels, and frozen layers have seen whole photographs; take --system=tpl"
        if self.maps == "erasing" and changed.classifier.early_stopping:
            return "early_stopping looks at whole photographs, and its later rounds learn from erased ones"
        if semi and changed.segmenter.simple_first:
            return "its three rounds learn no masks"
        if changed.segmenter.simple_first and changed.segmenter.retrain_steps:
            return "it has three rounds of its own, and no retrain_steps beside them"
        return ""

    def applied(self, preset: presets.Preset, semi: bool = False) -> presets.Preset:
        """Returns the preset with this system's changes, with `semi` those for masks of some images too."""
        changes = _joined(self.changes, self.semi if semi else {})
        return dataclasses.replace(preset, **{
            stage: dataclasses.replace(getattr(preset, stage), **fields) for stage, fields in changes.items()})


def _joined(*parts: Changes) -> dict[str, dict[str, Any]]:
    """Returns all the changes; later ones win."""
    joined: dict[str, dict[str, Any]] = {}
    for part in parts:
        for stage, fields in part.items():
            joined.setdefault(stage, {}).update(fields)
    return joined


_S: Changes = {"classifier": {"training_mode": "stochastic", "inference_mode": "stochastic"}}
_D: Changes = {"classifier": {"training_mode": "deterministic", "inference_mode": "deterministic"}}
_CRF: Changes = {"seeds": {"refine": "crf"}}
_THETA: Changes = {"seeds": {"refine": "none"}}  # theta and cue alone: sparse seeds
_SALIENCY: Changes = {"seeds": {"refine": "saliency"}}  # which class a salient pixel has, the maps say
_AFFINITY: Changes = {"seeds": {"refine": "affinity"}, "affinity": {"kind": "embedding"}}
_BOUNDARY: Changes = {"seeds": {"refine": "affinity"}, "affinity": {"kind": "boundary"}}
_SEC_SEEDS: Changes = {"seeds": {"refine": "none", "theta": 0.2, "background_cue": "gradient",
                                 "background_threshold": 0.1}}
_SEC_LOSSES: Changes = {"segmenter": {"losses": ("sec_seed", "expand", "boundary")}}
_GROWING: Changes = {"segmenter": {"growing": "dsrg"}}
_SEC_HEAD: Changes = {"classifier": {"head": "hidden", "hidden_layers": 2, "hidden_dropout": 0.5, "kernel_size": 1}}
# Of MDC's and EPS' heads the window stays the preset's: with all its units it is a 1 x 1 layer, but for the border and
# that Adam moves each place of the window by the full rate.
_MDC: Changes = {"classifier": {"head": "mdc"}}
_EPS: Changes = {"classifier": {"head": "eps", "objectives": ("tags", "saliency")}, "seeds": {"refine": "eps"}}
_GAIN: Changes = {"classifier": {"objectives": ("tags", "mining")}}
_HIDDEN: Changes = {"classifier": {"head": "hidden", "hidden_layers": 3, "kernel_size": 1}}  # OAA's and DRS'


def _segmenter(**fields: Any) -> Changes:
    return {"segmenter": fields}


SYSTEMS = {
    # Equal but for the selections: what random hidden units add.
    "deterministic": System("deterministic Grad-CAM, seeds by the CRF", _joined(_D, _CRF)),
    "ficklenet": System("FickleNet, seeds by the CRF", _joined(_S, _CRF), published=61.2,
                        published_semi=65.8),
    "deterministic_theta": System("deterministic Grad-CAM, seeds by theta", _joined(_D, _THETA)),
    "ficklenet_theta": System("FickleNet, seeds by theta (the paper's rule)", _joined(_S, _THETA)),
    "ficklenet_dsrg": System("FickleNet, seeds by theta that grow in training", _joined(_S, _THETA, _GROWING)),
    # Tags alone.
    "mil_fcn": System("MIL-FCN (Pathak et al. 2015): the greatest score",
                      _joined(_D, _segmenter(losses=("mil_max",)))),
    "mil_seg": System("MIL-seg (Pinheiro & Collobert 2015): log-sum-exp, image prior",
                      _joined(_D, _segmenter(losses=("mil_lse",), image_prior=True)), published=42.0, remembered=True),
    "em_fixed": System("WSSL, EM-Fixed (Papandreou et al. 2015)", _joined(_D, _segmenter(losses=("em_fixed",))),
                       published=20.8, published_semi=64.6, remembered=True),
    "em_adapt": System("WSSL, EM-Adapt (Papandreou et al. 2015)", _joined(_D, _segmenter(losses=("em_adapt",))),
                       published=38.2, remembered=True),
    "sec": System("SEC (Kolesnikov & Lampert 2016)", _joined(_D, _SEC_HEAD, _SEC_SEEDS, _SEC_LOSSES), published=50.7),
    "sec_crf": System("SEC's losses, deterministic, seeds by the CRF", _joined(_D, _CRF, _SEC_LOSSES)),
    "srg": System("deterministic, seeds by theta grown on the colours (SRG)", _joined(_D, {"seeds": {
        "refine": "srg"}})),
    "tpl": System("TPL (Kim et al. 2017): features erased, two rounds",
                  _joined(_D, _CRF, {"classifier": {"erase": "features"}}), "erasing", 2, published=53.1,
                  remembered=True),
    "ae_psl": System("AE-PSL's erasing (Wei et al. 2017), three rounds",
                     _joined(_D, _CRF, {"classifier": {"erase": "pixels"}}), "erasing", 3, published=55.0),
    "gain": System("GAIN (Li et al. 2018)", _joined(_D, _CRF, _GAIN), published=55.3,
                   semi={"classifier": {"objectives": ("tags", "mining", "mining_masks")}}, published_semi=60.5,
                   remembered=True),
    "dsrg": System("DSRG (Huang et al. 2018): seeds by theta that grow in training", _joined(_D, _THETA, _GROWING),
                   published=59.0),
    "affinitynet": System("AffinityNet (Ahn & Kwak 2018)", _joined(_D, _AFFINITY), published=58.4),
    "irn": System("IRN (Ahn et al. 2019), its boundaries", _joined(_D, _BOUNDARY)),
    # Saliency maps beside the tags.
    "stc": System("STC (Wei et al. 2017): simple to complex",
                  _joined(_D, _segmenter(losses=("stc",), simple_first=True)), published=49.8, remembered=True),
    "dcsp": System("DCSP (Chaudhry et al. 2017): harmonic mean of map and saliency", _joined(_D, {"seeds": {
        "refine": "harmonic"}}), published=58.6),
    "deterministic_saliency": System("deterministic Grad-CAM, seeds by saliency", _joined(_D, _SALIENCY)),
    "ficklenet_saliency": System("FickleNet, seeds by saliency", _joined(_S, _SALIENCY)),
    "hidden_saliency": System("the same deterministic, three hidden layers", _joined(_D, _HIDDEN, _SALIENCY)),
    "mdc": System("MDC (Wei et al. 2018): four dilations", _joined(_D, _MDC, _SALIENCY), published=60.4,
                  remembered=True),
    "oaa": System("OAA (Jiang et al. 2019): maps of the training's moments",
                  _joined(_D, _HIDDEN, _SALIENCY, {"classifier": {"snapshots": 5}}), "snapshots"),
    "eps": System("EPS (Lee et al. 2021)", _joined(_D, _EPS)),
    "drs": System("DRS (Kim et al. 2021)", _joined(_D, _HIDDEN, _SALIENCY, {"classifier": {"suppression": 0.55}})),
    # FickleNet's selections with others' parts.
    "ficklenet_mdc": System("FickleNet on MDC's units", _joined(_S, _MDC, _SALIENCY)),
    "ficklenet_affinity": System("FickleNet, AffinityNet's refinement", _joined(_S, _AFFINITY)),
    "ficklenet_eps": System("FickleNet, EPS' supervision", _joined(_S, _EPS)),
}

# (said to be better, than): pairs that differ in one part of a system, as its head, its losses or its refinement.
CLAIMS = (
    ("ficklenet", "deterministic"), ("ficklenet_theta", "deterministic_theta"),
    ("ficklenet_saliency", "deterministic_saliency"), ("ficklenet_mdc", "mdc"), ("ficklenet_affinity", "affinitynet"),
    ("ficklenet_eps", "eps"), ("ficklenet_dsrg", "dsrg"), ("ficklenet_dsrg", "ficklenet_theta"),
    ("dsrg", "deterministic_theta"), ("gain", "deterministic"), ("tpl", "deterministic"), ("ae_psl", "deterministic"),
    ("affinitynet", "deterministic"), ("irn", "affinitynet"), ("oaa", "hidden_saliency"), ("drs", "hidden_saliency"),
    ("dcsp", "deterministic_saliency"), ("em_adapt", "em_fixed"))
