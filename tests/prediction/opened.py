"""The suite of the run that is opened."""

SUITE = """\
name: opened
dataset: {name: fractals, classes: 3, train_per_class: 8, val_per_class: 6, test_per_class: 25,
          image_size: 32}
backbone: shufflenet_v2_x0_5
weights: {name: fractals, classes: 3, images_per_class: 8, epochs: 1}
strategy: [from_scratch, linear_probe, full_finetune, lp_ft]
schedule: constant
augmentation: flip_crop
epochs: 2
batch_size: 8
lr: 0.02
precision: fp32
seed: [0, 1]
"""
