"""A head that learns a batch, without the loop of a training."""

import keras
import tensorflow as tf

from ficklenet_tf.training import classifier_losses


def learn(head, batch, config, steps=60, rate=0.05):
    """Takes steps of Adam by the config's objectives."""
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(head.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = classifier_losses.total_loss(classifier_losses.Step(head, batch, config))["loss"]
        optimizer.apply(tape.gradient(loss, head.trainable_variables), head.trainable_variables)

    for _ in range(steps):
        step()
