"""The dilated convolution: values and gradients against slow NumPy, in every form, also where oneDNN is off."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.models import dilated_convolution

ROOT = pathlib.Path(__file__).parents[2]
CASES = [((7, 9), (3, 3), (2, 2)), ((6, 5), (3, 3), (2, 3)), ((4, 5), (3, 3), (6, 6)), ((8, 8), (5, 1), (3, 2))]
FORMS = {"eager": lambda function: function, "graph": tf.function,
         "xla": lambda function: tf.function(function, jit_compile=True)}


CHANNELS = [(3, 4), (20, 2)]  # of the second the taps have fewer outputs than there are channels: another way


def _arrays(sides, kernel, channels=CHANNELS[0]):
    rng, (of, to) = np.random.default_rng(0), channels
    return (rng.normal(size=(2, *sides, of)), rng.normal(size=(*kernel, of, to)), rng.normal(size=(2, *sides, to)))


def _slow(x, kernel, upstream, dilation):
    """Returns (output, gradient of x, gradient of the kernel), tap by tap and pixel by pixel."""
    output, of_x, of_kernel = np.zeros_like(upstream), np.zeros_like(x), np.zeros_like(kernel)
    (height, width), (rows, columns) = x.shape[1:3], kernel.shape[:2]
    for i, j, y, z in np.ndindex(rows, columns, height, width):
        down, right = y + (i - rows // 2) * dilation[0], z + (j - columns // 2) * dilation[1]
        if 0 <= down < height and 0 <= right < width:
            output[:, y, z] += x[:, down, right] @ kernel[i, j]
            of_x[:, down, right] += upstream[:, y, z] @ kernel[i, j].T
            of_kernel[i, j] += x[:, down, right].T @ upstream[:, y, z]
    return output, of_x, of_kernel


def _step(dilation):
    def step(x, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            output = dilated_convolution.conv2d(x, kernel, dilation)
        return [output, *tape.gradient(output, [x, kernel], upstream)]
    return step


@pytest.mark.trains
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("sides, kernel, dilation", CASES)
def test_values_and_gradients_are_those_of_slow_numpy(sides, kernel, dilation, channels, form):
    arrays = _arrays(sides, kernel, channels)
    results = FORMS[form](_step(dilation))(*map(tf.constant, arrays))
    for result, expected in zip(results, _slow(*arrays, dilation), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.trains
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 3e-2), ("float16", 3e-3)])
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_number_type_trains(dtype, tolerance, channels):
    arrays = _arrays((9, 9), (3, 3), channels)
    results = tf.function(_step((2, 2)))(*(tf.constant(array, dtype) for array in arrays))
    for result, expected in zip(results, _slow(*arrays, (2, 2)), strict=True):
        assert result.dtype.name == dtype
        np.testing.assert_allclose(tf.cast(result, tf.float64), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.trains
@pytest.mark.parametrize("channels", CHANNELS)
def test_gradients_of_gradients(channels):
    """Of a penalty on the input's gradient: against differences in float64."""
    x, kernel, upstream = map(tf.constant, _arrays((5, 4), (3, 3), channels))

    def penalty(kernel):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(upstream * tf.tanh(dilated_convolution.conv2d(x, kernel, (2, 2))))
        return tf.reduce_sum(tape.gradient(score, x) ** 2)

    with tf.GradientTape() as tape:
        tape.watch(kernel)
        value = penalty(kernel)
    gradient = tape.gradient(value, kernel).numpy()
    for index in [(0, 0, 0, 0), (1, 1, 2, 1), (2, 0, 1, 1)]:
        nudge = np.zeros(kernel.shape)
        nudge[index] = 1e-5
        expected = (penalty(kernel + nudge) - penalty(kernel - nudge)) / 2e-5
        np.testing.assert_allclose(gradient[index], expected, rtol=1e-6)


def test_the_layer_agrees_with_conv2d_of_keras_and_is_saved(tmp_path):
    x = tf.constant(_arrays((9, 9), (3, 3))[0], tf.float32)
    layer = dilated_convolution.DilatedConv2D(4, 3, padding="same", dilation_rate=2)
    model = keras.Sequential([keras.Input((9, 9, 3)), layer])
    keras_layer = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=2)
    keras_layer.build(x.shape)
    keras_layer.set_weights(layer.get_weights())
    np.testing.assert_allclose(model(x), keras_layer(x), atol=1e-5)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(x), model(x))
    assert isinstance(reloaded.layers[-1], dilated_convolution.DilatedConv2D)


@pytest.mark.parametrize("changes", [{"kernel_size": 2}, {"padding": "valid"}, {"groups": 2}])
def test_what_has_no_gradient_of_its_own_is_refused(changes):
    options = {"filters": 4, "kernel_size": 3, "padding": "same", **changes}
    dilated_convolution.DilatedConv2D(**options)
    with pytest.raises(ValueError, match="dilation expects an odd kernel"):
        dilated_convolution.DilatedConv2D(dilation_rate=2, **options)
    with pytest.raises(ValueError, match="expected channels_last, found channels_first"):
        dilated_convolution.DilatedConv2D(4, 3, data_format="channels_first")


_CLIENT = """
import sys, numpy as np, tensorflow as tf
saved = np.load(sys.argv[2])
model, x = tf.saved_model.load(sys.argv[1]), tf.constant(saved["x"])
with tf.GradientTape() as tape:
    tape.watch(x)
    output = model.convolve(x)
np.testing.assert_allclose(output, saved["output"], atol=1e-4)
np.testing.assert_allclose(tape.gradient(output, x, tf.constant(saved["upstream"])), saved["of_x"], atol=1e-4)
"""


@pytest.mark.trains
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_saved_model_is_differentiated_where_onednn_is_off(tmp_path, channels):
    x, kernel, upstream = (array.astype(np.float32) for array in _arrays((9, 9), (3, 3), channels))
    module = tf.Module()
    module.kernel = tf.Variable(kernel)
    module.convolve = tf.function(lambda x: dilated_convolution.conv2d(x, tf.convert_to_tensor(module.kernel), (2, 2)),
                                  input_signature=[tf.TensorSpec([None, None, None, channels[0]])])
    tf.saved_model.save(module, str(tmp_path / "model"))
    output, of_x, _ = _slow(x, kernel, upstream, (2, 2))
    np.savez(tmp_path / "arrays.npz", x=x, upstream=upstream, output=output, of_x=of_x)
    client = subprocess.run([sys.executable, "-c", _CLIENT, str(tmp_path / "model"), str(tmp_path / "arrays.npz")],
                            cwd=ROOT, capture_output=True, text=True,
                            env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert client.returncode == 0, client.stderr[-2000:]
