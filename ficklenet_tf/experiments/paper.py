"""The paper's own figures, per cent mIoU on VOC 2012 val where nothing else is said (Lee et al., CVPR 2019).

They come from a network trained whole on 10,582 photographs, with saliency maps for the background: beside ours they
show the direction of an effect, not its size.
"""

TABLE2 = {"ficklenet": 64.9, "dsrg": 61.4}  # ResNet-101; on the test set 65.3 and 63.2
# Those that are not run here, see docs/systems.md; VGG-16, * as remembered and not read again.
OTHERS1 = {"TransferNet (Hong et al. 2016) *": 52.1, "CBTS (Roy & Todorovic 2017) *": 52.8,
           "Guided Labelling (Oh et al. 2017)": 55.7, "CrawlSeg (Hong et al. 2017)": 58.1,
           "MCOF (Wang et al. 2018) *": 56.2}
OTHERS2 = {"MCOF (Wang et al. 2018), ResNet-101": 60.3, "AISI (Fan et al. 2018), ResNet-101": 63.6}
TABLE3 = {"strong only": 62.5, "semi": 65.8, "full": 67.6, "weak": 61.2}  # 1.4k strong; 10.6k weak
TABLE4 = {"naive": (20.0, 2.98, 8.4), "expanded": (1.3, 0.21, 10.1)}  # s per iteration, s per image, GB
TABLE5 = {("D", 0.0): 56.3, ("S", 0.3): 58.8, ("S", 0.5): 59.4, ("S", 0.7): 60.0, ("S", 0.9): 61.2,
          ("G", 0.5): 45.6, ("G", 0.9): 49.1}
TABLE6 = {10: 21.0, 100: 14.0, 200: 6.8, 300: 4.8}  # standard deviation of mIoU, in thousandths
TABLE7 = {("G", "G"): 49.1, ("G", "S"): 55.5, ("G", "D"): 57.1, ("S", "S"): 61.2, ("S", "D"): 59.6, ("D", "D"): 59.0}

MODES = {"S": "stochastic", "G": "general", "D": "deterministic"}
