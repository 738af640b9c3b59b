"""Region growing worked out by hand: on colours (SRG), on a network's answers (DSRG)."""

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.seeds import refinement, region_growing

X = 255


def _srg(greys, seeds, distance=442):
    """SRG of grey values, as rows of numbers; one distance in grey is sqrt(3) in RGB."""
    image = np.repeat(np.array(greys, np.uint8)[..., None], 3, -1)
    return region_growing.srg(image, np.array(seeds, np.uint8), distance * 3**0.5).tolist()


def test_the_likest_pixel_joins_first_and_moves_the_mean():
    """A line 0 40 70 100, seeds at both ends.

    40 is 40 from the left, 70 is 30 from the right: 70 joins the right, whose mean falls to 85. So 40 is 45
    from the right and joins the left. Were the mean not moved, or the order that of the line, the same; the
    next case tells them apart.
    """
    assert _srg([[0, 40, 70, 100]], [[1, X, X, 2]]) == [[1, 1, 2, 2]]
    # 52 is 52 from the left, 48 from the right. First 90 joins the right (10), and 80 (mean 95: 15), so the right's
    # mean is 90 when 52 is reached, 38 away; the left's is still 0.
    assert _srg([[0, 52, 80, 90, 100]], [[1, X, X, X, 2]]) == [[1, 2, 2, 2, 2]]
    # A ramp: the left moves along with its mean, 0, 5, 10 ..; 45 is 35 from its mean then, and 55 from the right's.
    assert _srg([[0, 10, 20, 45, 100]], [[1, X, X, X, 2]]) == [[1, 1, 1, 1, 2]]


def test_the_mean_decides_and_not_the_seed():
    """40 is 40 from seed 1 and 36 from seed 2, but seed 1's region has the mean (0 + 36 + 36) / 3 = 24 by then."""
    assert _srg([[36, 0, 36, 40, 76]], [[X, 1, X, X, 2]]) == [[1, 1, 1, 1, 2]]
    assert _srg([[0, 0, 0, 40, 76]], [[X, 1, X, X, 2]]) == [[1, 1, 1, 2, 2]]


def test_what_is_too_far_in_colour_stays_unlabelled():
    assert _srg([[0, 10, 200, 10]], [[1, X, X, X]], distance=20) == [[1, 1, X, X]]
    assert _srg([[0, 20, 30]], [[1, X, X]], distance=20.5) == [[1, 1, 1]]  # 20 from the mean, which is 10 then
    assert _srg([[0, 20, 31]], [[1, X, X]], distance=20.5) == [[1, 1, X]]
    assert _srg([[0, 20, 31]], [[1, X, X]]) == [[1, 1, 1]]


@pytest.mark.parametrize("channel", range(3))
def test_a_regions_mean_colour_is_no_whole_number(channel):
    """Of 0 and 1 the mean is 0.5, and 10 lies 9.5 from it."""
    image, seeds = np.zeros((1, 3, 3), np.uint8), np.array([[1, X, X]], np.uint8)
    image[0, :, channel] = 0, 1, 10
    assert region_growing.srg(image, seeds, 9.7).tolist() == [[1, 1, 1]]
    assert region_growing.srg(image, seeds, 9.4).tolist() == [[1, 1, X]]


def test_a_region_grows_round_corners_and_through_diagonals():
    greys = [[0, 200, 200], [200, 0, 200], [200, 200, 0]]
    assert _srg(greys, [[3, X, X], [X, X, X], [X, X, X]], 50) == [[3, X, X], [X, 3, X], [X, X, 3]]


def test_two_seeds_of_one_class_are_two_regions():
    """A white and a black part of one class: as one region of mean 100 it would lose 200 and 0 to class 2 (60)."""
    greys, seeds = [[200, 200, 60, 0, 0]], [[1, X, 2, X, 1]]
    assert _srg(greys, seeds) == [[1, 1, 2, 1, 1]]


def test_without_seeds_or_room_nothing_changes():
    assert _srg([[0, 9], [9, 9]], [[X, X], [X, X]]) == [[X, X], [X, X]]
    assert _srg([[0, 9], [9, 9]], [[1, 0], [0, 2]]) == [[1, 0], [0, 2]]


def test_srg_against_a_slow_search_of_the_least_distance():
    """The queue against trying, at every step, all pixels at the regions' borders by the distance they came with."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        image = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
        seeds = rng.choice([0, 1, 2, X], (7, 9), p=[0.05, 0.05, 0.05, 0.85]).astype(np.uint8)
        np.testing.assert_array_equal(region_growing.srg(image, seeds, 150.0), _slow(image, seeds, 150.0))


def _slow(image, seeds, limit):
    image, label = image.astype(float), seeds.copy()
    region = -np.ones(seeds.shape, int)
    for y, x in zip(*np.nonzero(seeds != X), strict=True):  # flood each connected set of one class
        if region[y, x] < 0:
            number, todo = region.max() + 1, [(y, x)]
            while todo:
                p = todo.pop()
                if region[p] < 0:
                    region[p] = number
                    todo += [q for q in _neighbours(p, seeds.shape) if seeds[q] == seeds[p]]
    waiting = {}

    def reach(p):
        mean = image[region == region[p]].mean(0)
        for q in _neighbours(p, seeds.shape):
            far = np.linalg.norm(image[q] - mean)
            if region[q] < 0 and far <= limit and far < waiting.get(q, (np.inf,))[0]:
                waiting[q] = far, region[p]

    for p in sorted(zip(*np.nonzero(region >= 0), strict=True)):
        reach(p)
    while waiting:
        q = min(waiting, key=lambda q: waiting[q][0])
        region[q] = waiting.pop(q)[1]
        label[q] = label[(region == region[q]) & (label != X)][0]
        reach(q)
    return label


def _neighbours(p, shape):
    return [(p[0] + dy, p[1] + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)
            if (dy or dx) and 0 <= p[0] + dy < shape[0] and 0 <= p[1] + dx < shape[1]]


def test_srg_on_a_reduced_photograph_keeps_the_seeds_as_they_are():
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:] = 200
    label = np.full((20, 30), X, np.uint8)
    label[5, 2:5], label[9, 20:22], label[0, 0] = 1, 2, 2  # the last is lost in the reduction
    grown = refinement.srg_refine(image, label, 30.0, 0.5)
    assert (grown[label != X] == label[label != X]).all() and grown[0, 0] == 2
    assert (grown[2:, :14] == 1).all() and (grown[:, 16:] == 2).all()


def _dsrg(seeds, tags, **probs):
    """DSRG of one image with three classes: `p0`, `p1`, `p2` as rows; what is not given is 0."""
    seeds = np.array(seeds, np.uint8)
    planes = [np.broadcast_to(np.array(probs.get(f"p{c}", 0), np.float32), seeds.shape) for c in range(3)]
    return region_growing.dsrg(tf.constant(np.stack(planes, -1)[None]), tf.constant(seeds[None]),
                               tf.constant([tags], tf.float32), 0.85, 0.99)[0].numpy().tolist()


def test_dsrg_takes_the_sure_pixels_that_hang_together_with_a_seed():
    grown = _dsrg([[1, X, X, X, X]], [1, 0], p1=[[0.5, 0.9, 0.86, 0.84, 0.9]])
    assert grown == [[1, 1, 1, X, X]]  # what lies behind the unsure pixel hangs together with no seed


def test_dsrg_has_another_threshold_for_the_background():
    assert _dsrg([[0, X, X]], [1, 0], p0=[[1, 0.995, 0.98]]) == [[0, 0, X]]
    assert _dsrg([[1, X, X]], [1, 0], p1=[[1, 0.995, 0.98]]) == [[1, 1, 1]]


def test_dsrg_grows_diagonally_and_through_seeds():
    grown = _dsrg([[1, X, X], [X, X, X], [X, X, X]], [1, 0], p1=[[0, 0, 0], [0, 0.9, 0], [0, 0, 0.9]])
    assert grown == [[1, X, X], [X, 1, X], [X, X, 1]]
    # The seed in the middle is unsure and still carries on; one of another class does so if the network is sure of it.
    assert _dsrg([[X, 1, X]], [1, 0], p1=[[0.9, 0.1, 0.9]]) == [[1, 1, 1]]
    assert _dsrg([[1, 2, X]], [1, 1], p1=[[0.9, 0.9, 0.9]]) == [[1, 2, 1]]
    assert _dsrg([[1, 2, X]], [1, 1], p1=[[0.9, 0.1, 0.9]]) == [[1, 2, X]]
    assert _dsrg([[2, 1, X]], [1, 1], p2=[[0.9, 0.9, 0.9]]) == [[2, 1, 2]]


def test_a_seed_of_which_the_network_is_sure_that_it_is_another_class_leads_nowhere():
    """Their code gives such a pixel the other class before it looks for what hangs together; the seed itself stays."""
    assert _dsrg([[X, 1, X]], [1, 1], p1=[[0.9, 0.05, 0.9]], p2=[[0, 0.9, 0]]) == [[X, 1, X]]
    assert _dsrg([[X, 1, 1, X]], [1, 1], p1=[[0.9, 0.05, 0.3, 0.9]], p2=[[0, 0.9, 0, 0]]) == [[X, 1, 1, 1]]
    assert _dsrg([[2, 1, X]], [1, 1], p1=[[0, 0.05, 0]], p2=[[0.9, 0.9, 0.9]]) == [[2, 1, 2]]
    assert _dsrg([[1, X]], [1, 0], p0=[[0.95, 0]], p1=[[0.05, 0.9]]) == [[1, 1]]  # not sure enough for the background


def test_dsrg_against_a_slow_form_of_their_rule():
    """Pixel by pixel and by flooding, on random answers that contradict random seeds."""
    rng = np.random.default_rng(4)
    changed = 0
    for _ in range(20):
        seeds = rng.choice([0, 1, 2, X], (6, 7), p=[0.1, 0.1, 0.1, 0.7]).astype(np.uint8)
        probs = rng.dirichlet([0.15] * 3, (6, 7)).astype(np.float32)
        tags = rng.integers(0, 2, 2)
        grown = _dsrg(seeds, tags, **{f"p{c}": probs[..., c] for c in range(3)})
        expected = _slow_dsrg(probs, seeds, [0, *np.flatnonzero(tags) + 1])
        np.testing.assert_array_equal(grown, expected)
        changed += (expected != seeds).sum()
    assert changed > 50


def _slow_dsrg(probs, seeds, class_ids):
    label, grown = seeds.copy(), seeds.copy()
    for p in np.ndindex(*seeds.shape):
        best = max(class_ids, key=lambda c: probs[p][c])
        if probs[p][best] > (0.99 if best == 0 else 0.85):
            label[p] = best
    for class_id in class_ids:
        todo = [p for p in np.ndindex(*seeds.shape) if seeds[p] == class_id == label[p]]
        reached = set()
        while todo:
            p = todo.pop()
            if p not in reached:
                reached.add(p)
                todo += [q for q in _neighbours(p, seeds.shape) if label[q] == class_id]
        for p in reached:
            grown[p] = class_id if seeds[p] == X else seeds[p]
    return grown


def test_dsrg_knows_only_the_images_own_classes():
    assert _dsrg([[1, X]], [1, 0], p1=[[0.9, 0.05]], p2=[[0.05, 0.9]]) == [[1, X]]
    assert _dsrg([[1, X]], [0, 1], p1=[[0.9, 0.9]]) == [[1, X]]
    assert _dsrg([[0, X]], [0, 0], p0=[[1, 1]]) == [[0, 0]]


def test_dsrg_treats_each_image_of_a_batch_alone_and_in_a_graph():
    probs = np.zeros((2, 2, 2, 3), np.float32)
    probs[0, ..., 1], probs[1, ..., 2] = 1, 1
    seeds = np.full((2, 2, 2), X, np.uint8)
    seeds[:, 0, 0] = 1, 2
    grow = tf.function(region_growing.dsrg, autograph=False)
    grown = grow(tf.constant(probs), tf.constant(seeds), tf.constant([[1.0, 0], [0, 1.0]]), 0.85, 0.99)
    assert grown.shape == (2, 2, 2)
    assert grown.numpy()[0].tolist() == [[1, 1], [1, 1]] and grown.numpy()[1].tolist() == [[2, 2], [2, 2]]
    assert (seeds == X).sum() == 6  # the seeds themselves are left alone: the next step starts from them
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.function(region_growing.dsrg, jit_compile=True, autograph=False)(
            tf.constant(probs), tf.constant(seeds), tf.constant([[1.0, 0], [0, 1.0]]), 0.85, 0.99)
