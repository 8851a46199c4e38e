"""The catalogue of data sets: their folders, sources, licences and conventions of scoring."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# Conventions of super-resolution by the kind of input: measured in RGB, or on the Y channel, as older benchmarks are.
IN_RGB = {"rgb": ("rgb",), "luma": ("rgb",)}
IN_LUMA = {"rgb": ("y",), "luma": ("luma",)}


@dataclass(frozen=True)
class Source:
    """A download source.

    url:      an archive (zip, tar, tar.gz); or, ending in "/", a folder whose files are fetched one by one
    members:  pattern of the wanted files inside the archive (fnmatch on the whole path)
    suffix:   of the files in the folder, if it differs from that of the names kept here
    checksum: of the archive, "sha256:..." or "md5:..." as its users publish it; if None, the images are compared
              with the manifest's checksums alone
    """

    url: str
    members: str = "*"
    suffix: str = ""
    checksum: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    count:   number of images; None for any number
    role:    "train", or "test" for images that must never be trained on
    source:  who published it
    folders: folders below the data root that may hold it; the first one with images of it is taken
    sources: mirrors, tried in turn; empty if it must be fetched by hand, or is made of `parts`
    ask:     how to get it by hand, one line
    files:   the exact file names, if its folder may hold other images too
    namings: the file names of each published distribution, if they differ; compared where no manifest is shipped
    parts:   the data sets that make up this one
    package: the installed package that ships it
    conventions: of super-resolution: kind of input (rgb, luma) to names among luma, y, y8 and rgb; the first name is
             the convention of published tables
    low_resolution: folder below the data root of its low-resolution images, with {scale} for the scale; if empty,
             they are DIV2K's official ones or made by MATLAB's bicubic
    """

    name: str
    title: str
    count: int | None
    colour: bool
    role: str
    licence: str
    source: str
    folders: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    ask: str = ""
    files: tuple[str, ...] = ()
    namings: tuple[tuple[str, ...], ...] = ()
    parts: tuple[str, ...] = ()
    package: str = ""
    conventions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: IN_RGB, hash=False)
    low_resolution: str = ""


def _layouts(*names: str) -> tuple[str, ...]:
    """Folders of data sets by name: the folder itself, then the layouts of EDSR and BasicSR."""
    layouts = ("{}", "{}/HR", "benchmark/{}/HR", "{}/original")
    return tuple(layout.format(name) for name in names for layout in layouts)


def _numbered(first: int, last: int, ending: str = ".png") -> tuple[str, ...]:
    return tuple(f"{number:04d}{ending}" for number in range(first, last + 1))


_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
_HUB = "https://huggingface.co/datasets/eugenesiow"
_DNCNN = "https://raw.githubusercontent.com/cszn/DnCNN/e93b27812d3ff523a3a79d19e5e50d233d7a8d0a"
_SWINIR = "https://raw.githubusercontent.com/JingyunLiang/SwinIR/33f616625268d08ba600f8db89388eec0328edb1"
_EDSR = "https://cv.snu.ac.kr/research/EDSR/benchmark.tar"

# sha256 as TensorFlow Datasets publishes them (datasets/div2k/checksums.tsv)
_DIV2K_SHA256 = {
    "train_HR": "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    "valid_HR": "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
    "train_LR_bicubic_X2": "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850",
    "train_LR_bicubic_X3": "ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a",
    "train_LR_bicubic_X4": "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a",
    "valid_LR_bicubic_X2": "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57",
    "valid_LR_bicubic_X3": "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3",
    "valid_LR_bicubic_X4": "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553",
}


def _div2k(archive: str) -> tuple[Source, ...]:
    return (Source(f"{_DIV2K}/DIV2K_{archive}.zip", "*.png", checksum=f"sha256:{_DIV2K_SHA256[archive]}"),)


def _bsds500(split: str) -> tuple[Source, ...]:
    return (
        Source(
            "https://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
            f"*/images/{split}/*.jpg",
            checksum="md5:0b17383ff0b21fe43d2f28e624203169",
        ),
    )


def _srcnn(members: str) -> Source:
    """The training code of SRCNN (Dong et al., 2014), which carries T91, Set5 and Set14."""
    return Source(
        "http://mmlab.ie.cuhk.edu.hk/projects/SRCNN/SRCNN_train.zip",
        members,
        checksum="sha256:001146419f7acfb12a3e7929c8acd5de88a08d687d6881085f81321ad6982b1a",
    )


_UNSTATED = "none stated; research use"
_RESEARCH = "non-commercial research"

_ALL = (
    Dataset(
        "div2k_train", "DIV2K training images", 800, True, "train", "academic research only",
        "NTIRE 2017 challenge, Agustsson and Timofte",
        folders=("DIV2K_train_HR", "DIV2K/DIV2K_train_HR"),
        sources=_div2k("train_HR"),
        files=_numbered(1, 800),
    ),
    Dataset(
        "div2k_val", "DIV2K validation images", 100, True, "test", "academic research only",
        "NTIRE 2017 challenge, Agustsson and Timofte",
        folders=("DIV2K_valid_HR", "DIV2K/DIV2K_valid_HR", "DIV2K_train_HR", "DIV2K/DIV2K_train_HR"),
        sources=_div2k("valid_HR"),
        files=_numbered(801, 900),
    ),
    *(
        Dataset(
            f"div2k_{split}_lr_x{scale}", f"DIV2K {split} images, official bicubic x{scale}",
            last - first + 1, True, role, "academic research only",
            "NTIRE 2017 challenge, Agustsson and Timofte",
            folders=(
                f"DIV2K_{folder}_LR_bicubic/X{scale}",
                f"DIV2K/DIV2K_{folder}_LR_bicubic/X{scale}",
            ),
            sources=_div2k(f"{folder}_LR_bicubic_X{scale}"),
            files=_numbered(first, last, f"x{scale}.png"),
        )
        for split, folder, role, first, last in (
            ("train", "train", "train", 1, 800),
            ("val", "valid", "test", 801, 900),
        )
        for scale in (2, 3, 4)
    ),
    Dataset(
        "div2k_val_crops", "DIV2K-val crops (256x256 crops of 0801-0900, a stand-in)", 100, True, "test",
        "academic research only", "cut from the DIV2K validation images",
        folders=("DIV2K_val_crop256",),
        ask="it is no published set: use div2k_val, the full images",
    ),
    Dataset(
        "set5", "Set5", 5, True, "test", _UNSTATED, "Bevilacqua et al., BMVC 2012",
        folders=_layouts("Set5"),
        sources=(
            Source(f"{_HUB}/Set5/resolve/main/data/Set5_HR.tar.gz", "*.png"),
            Source(_EDSR, "*/Set5/HR/*.png"),
            _srcnn("*/Test/Set5/*.bmp"),
        ),
        conventions=IN_LUMA,
    ),
    Dataset(
        "set14", "Set14", 14, True, "test", _UNSTATED, "Zeyde et al., 2010 (`bridge` is grey)",
        folders=_layouts("Set14"),
        sources=(
            Source(f"{_HUB}/Set14/resolve/main/data/Set14_HR.tar.gz", "*.png"),
            Source(_EDSR, "*/Set14/HR/*.png"),
            _srcnn("*/Test/Set14/*.bmp"),
        ),
        conventions=IN_LUMA,
    ),
    Dataset(
        "b100", "B100 (the validation images of BSDS500)", 100, True, "test", _RESEARCH,
        "Martin et al., ICCV 2001; Arbelaez et al., 2011",
        folders=_layouts("B100", "BSD100", "BSDS100"),
        sources=(
            Source(f"{_HUB}/BSD100/resolve/main/data/BSD100_HR.tar.gz", "*.png"),
            Source(_EDSR, "*/B100/HR/*.png"),
        ),
        conventions={"rgb": ("y", "rgb"), "luma": ("luma",)},  # RGB stands in for DIV2K validation
    ),
    Dataset(
        "urban100", "Urban100", 100, True, "test", "Creative Commons photographs; research use",
        "Huang et al., CVPR 2015",
        folders=_layouts("Urban100"),
        sources=(
            Source(
                f"{_HUB}/Urban100/resolve/main/data/Urban100_HR.tar.gz",
                "*.png",
                checksum="md5:65d9d84a34b72c6f7ca1e26a12df1e4c",
            ),
            Source(_EDSR, "*/Urban100/HR/*.png"),
        ),
        namings=tuple(
            tuple(form.format(number) for number in range(1, 101)) for form in ("img_{:03d}.png", "img{:03d}.png")
        ),  # the latter are EDSR's
        conventions=IN_LUMA,
    ),
    Dataset(
        "manga109", "Manga109", 109, True, "test", "academic use, by application", "Matsui et al., 2017",
        folders=_layouts("Manga109"),
        ask="ask its authors at http://www.manga109.org",
        conventions={"rgb": ("y", "y8"), "luma": ("y8",)},
    ),
    Dataset(
        "bsds500_train", "BSDS500 training images", 200, True, "train", _RESEARCH, "Arbelaez et al., 2011",
        folders=("BSDS500/train", "BSR/BSDS500/data/images/train", "BSDS500/data/images/train"),
        sources=_bsds500("train"),
    ),
    Dataset(
        "bsds500_test", "BSDS500 test images (trained on, as DnCNN does)", 200, True, "train", _RESEARCH,
        "Arbelaez et al., 2011",
        folders=("BSDS500/test", "BSR/BSDS500/data/images/test", "BSDS500/data/images/test"),
        sources=_bsds500("test"),
    ),
    Dataset(
        "bsds500", "BSDS500 training and test images", 400, True, "train", _RESEARCH, "Arbelaez et al., 2011",
        parts=("bsds500_train", "bsds500_test"),
    ),
    Dataset(
        "train400", "Train400 (180x180 grey crops of the 400 BSDS500 images)", 400, False, "train", _RESEARCH,
        "Zhang et al., TIP 2017 (DnCNN)",
        folders=("Train400",),
        sources=(Source(f"{_DNCNN}/TrainingCodes/DnCNN_TrainingCodes_v1.0/data/Train400/"),),
    ),
    Dataset(
        "t91", "T91", 91, True, "train", _UNSTATED, "Yang et al., TIP 2010",
        folders=("T91", "91-image", "91-images"),
        sources=(_srcnn("*Train/*.bmp"),),
    ),
    Dataset(
        "t91_bsd200", "T91 and the BSDS500 training images", 291, True, "train", _RESEARCH,
        "Yang et al., 2010; Arbelaez et al., 2011",
        parts=("t91", "bsds500_train"),
    ),
    Dataset(
        "set12", "Set12", 12, False, "test", _UNSTATED, "Zhang et al., TIP 2017 (DnCNN)",
        folders=("Set12",),
        sources=(Source(f"{_DNCNN}/testsets/Set12/"), Source(f"{_SWINIR}/testsets/Set12/")),
    ),
    Dataset(
        "bsd68", "BSD68 (part of BSDS500's validation images, grey)", 68, False, "test", _RESEARCH,
        "Roth and Black, CVPR 2005",
        folders=("BSD68", "CBSD68/gray"),
        sources=(Source(f"{_DNCNN}/testsets/BSD68/"),),
    ),
    Dataset(
        "classic5", "Classic5", 5, False, "test", _UNSTATED, "Foi et al., TIP 2007 (SA-DCT)",
        folders=("Classic5",),
        sources=(
            Source(f"{_SWINIR}/testsets/classic5/", suffix=".bmp"),
            Source(f"{_DNCNN}/testsets/classic5/", suffix=".bmp"),
        ),
    ),
    Dataset(
        "live1", "LIVE1", 29, True, "test", "free for research, with citation",
        "Sheikh et al., LIVE, University of Texas at Austin",
        folders=("LIVE1",),
        sources=(Source(f"{_DNCNN}/testsets/LIVE1/", suffix=".bmp"),),
    ),
    Dataset(
        "embedded_train", "photographs that scikit-image ships, for training", 7, True, "train",
        "public domain or CC0", "the installed scikit-image",
        files=(
            "astronaut.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png",
            "motorcycle_right.png", "retina.jpg",
        ),
        package="skimage",
    ),
    Dataset(
        "embedded_val", "photographs that scikit-image ships, for scoring", 2, True, "test",
        "public domain or CC0", "the installed scikit-image",
        files=("chelsea.png", "rocket.jpg"),
        package="skimage",
    ),
)  # fmt: skip

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
