"""The sequences of the benchmarks OTB-2013, OTB-50 and OTB-100: names, frames, targets.

Membership: the lists ``cvpr13.txt``, ``tb_50.txt`` and ``tb_100.txt`` of the benchmark's authors
(github.com/jwlim/tracker_benchmark). Frames: ``configSeqs.m`` of their MATLAB toolkit, and
pytracking's ``otbdataset.py``, which agree on the 99 that both have: ``configSeqs.m`` lacks the
second target of Human4, whose range is pytracking's.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..sequences import Sequence, SequenceError, SequenceWarning, read_otb

# Name, first and last frame, sets. A number after a point is that of the target: its boxes are in
# groundtruth_rect.2.txt. Human4 counts with its second target alone.
_TABLE = """
Basketball      1   725  otb2013 otb50 otb100
Biker           1   142  otb50 otb100
Bird1           1   408  otb50 otb100
Bird2           1    99  otb100
BlurBody        1   334  otb50 otb100
BlurCar1      247   988  otb100
BlurCar2        1   585  otb50 otb100
BlurCar3        3   359  otb100
BlurCar4       18   397  otb100
BlurFace        1   493  otb50 otb100
BlurOwl         1   631  otb50 otb100
Board           1   698  otb100
Bolt            1   350  otb2013 otb50 otb100
Bolt2           1   293  otb100
Box             1  1161  otb50 otb100
Boy             1   602  otb2013 otb100
Car1            1  1020  otb50 otb100
Car2            1   913  otb100
Car24           1  3059  otb100
Car4            1   659  otb2013 otb50 otb100
CarDark         1   393  otb2013 otb50 otb100
CarScale        1   252  otb2013 otb50 otb100
ClifBar         1   472  otb50 otb100
Coke            1   291  otb2013 otb100
Couple          1   140  otb2013 otb50 otb100
Coupon          1   327  otb100
Crossing        1   120  otb2013 otb100
Crowds          1   347  otb50 otb100
Dancer          1   225  otb100
Dancer2         1   150  otb100
David         300   770  otb2013 otb50 otb100
David2          1   537  otb2013 otb100
David3          1   252  otb2013 otb100
Deer            1    71  otb2013 otb50 otb100
Diving          1   215  otb50 otb100
Dog             1   127  otb100
Dog1            1  1350  otb2013 otb100
Doll            1  3872  otb2013 otb100
DragonBaby      1   113  otb50 otb100
Dudek           1  1145  otb2013 otb50 otb100
FaceOcc1        1   892  otb2013 otb100
FaceOcc2        1   812  otb2013 otb100
Fish            1   476  otb2013 otb100
FleetFace       1   707  otb2013 otb100
Football        1   362  otb2013 otb50 otb100
Football1       1    74  otb2013 otb100
Freeman1        1   326  otb2013 otb100
Freeman3        1   460  otb2013 otb100
Freeman4        1   283  otb2013 otb50 otb100
Girl            1   500  otb2013 otb50 otb100
Girl2           1  1500  otb100
Gym             1   767  otb100
Human2          1  1128  otb100
Human3          1  1698  otb50 otb100
Human4.2        1   667  otb50 otb100
Human5          1   713  otb100
Human6          1   792  otb50 otb100
Human7          1   250  otb100
Human8          1   128  otb100
Human9          1   305  otb50 otb100
Ironman         1   166  otb2013 otb50 otb100
Jogging.1       1   307  otb2013 otb100
Jogging.2       1   307  otb2013 otb100
Jump            1   122  otb50 otb100
Jumping         1   313  otb2013 otb50 otb100
KiteSurf        1    84  otb100
Lemming         1  1336  otb2013 otb100
Liquor          1  1741  otb2013 otb50 otb100
Man             1   134  otb100
Matrix          1   100  otb2013 otb50 otb100
Mhyang          1  1490  otb2013 otb100
MotorRolling    1   164  otb2013 otb50 otb100
MountainBike    1   228  otb2013 otb100
Panda           1  1000  otb50 otb100
RedTeam         1  1918  otb50 otb100
Rubik           1  1997  otb100
Shaking         1   365  otb2013 otb50 otb100
Singer1         1   351  otb2013 otb100
Singer2         1   366  otb2013 otb50 otb100
Skater          1   160  otb100
Skater2         1   435  otb100
Skating1        1   400  otb2013 otb50 otb100
Skating2.1      1   473  otb50 otb100
Skating2.2      1   473  otb50 otb100
Skiing          1    81  otb2013 otb50 otb100
Soccer          1   392  otb2013 otb50 otb100
Subway          1   175  otb2013 otb100
Surfer          1   376  otb50 otb100
Suv             1   945  otb2013 otb100
Sylvester       1  1345  otb2013 otb50 otb100
Tiger1          1   354  otb2013 otb100
Tiger2          1   365  otb2013 otb50 otb100
Toy             1   271  otb100
Trans           1   124  otb100
Trellis         1   569  otb2013 otb50 otb100
Twinnings       1   472  otb100
Vase            1   271  otb100
Walking         1   412  otb2013 otb50 otb100
Walking2        1   500  otb2013 otb50 otb100
Woman           1   597  otb2013 otb50 otb100
"""


@dataclass(frozen=True)
class Entry:
    """A sequence of a benchmark.

    Attributes
    ----------
    name : str
        The sequence's, with the number of the target where its folder has several.
    folder : str
        The folder that the benchmark keeps it in.
    target : int
        Which, from 1.
    first, last : int
        Numbers of its first and last frame, from 1: those that have boxes.
    """

    name: str
    folder: str
    target: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


def _read_table() -> dict[str, tuple[Entry, ...]]:
    sets: dict[str, list[Entry]] = {"otb2013": [], "otb50": [], "otb100": []}
    for line in _TABLE.split("\n")[1:-1]:
        name, first, last, *names = line.split()
        folder, _, target = name.partition(".")
        entry = Entry(name, folder, int(target or 1), int(first), int(last))
        for set_name in names:
            sets[set_name].append(entry)
    return {name: tuple(entries) for name, entries in sets.items()}


SETS = _read_table()


def read_set(
    name: str, roots: Iterable[str | os.PathLike]
) -> tuple[list[Sequence], dict[str, str]]:
    """The sequences of a benchmark that are on disk.

    Parameters
    ----------
    name : 'otb2013', 'otb50' or 'otb100'
    roots : paths
        Folders of the sequences' folders, searched in this order.

    Returns
    -------
    sequences : list of Sequence
        With the benchmark's names.
    missing : dict
        Why each of the others is not among them: not there, not readable, or not whole.

    Raises
    ------
    ValueError
        If there is no such benchmark.
    """
    if name not in SETS:
        raise ValueError(f"a set must be one of {', '.join(SETS)}; received {name!r}")
    roots = [Path(root) for root in roots]
    found, missing = [], {}
    for entry in SETS[name]:
        folders = [root / entry.folder for root in roots if (root / entry.folder).is_dir()]
        if not folders:
            missing[entry.name] = "no such folder"
            continue
        try:
            with warnings.catch_warnings():
                # Football1 and others have frames beyond their last box.
                warnings.simplefilter("ignore", SequenceWarning)
                sequence = read_otb(folders[0], entry.target)
        except SequenceError as exc:
            missing[entry.name] = str(exc)
            continue
        if len(sequence) != len(entry):
            missing[entry.name] = f"{len(sequence)} frames in place of {len(entry)}"
            continue
        found.append(dataclasses.replace(sequence, name=entry.name))
    return found, missing
