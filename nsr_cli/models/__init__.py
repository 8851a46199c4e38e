"""Networks: the paper's and those it is compared with, their weights, and restoration tile by tile.

A new network is any ``nn.Module`` from (B, C, H, W) in [0, 1] to (B, C, scale * H, scale * W). A YAML in conf/model
(or in ``--config-dir``) names its class. Optional attributes:

    halo      pixels of the input that an output pixel sees in each direction; without it, images are not tiled
    enlarges  factor by which the network enlarges its input before its convolutions; 1 by default
    multiple  its input's sides must be multiples of it, as in networks that pool or cut windows; 1 by default
    tile      side of the training patches, and of the tiles of networks with gates; set by this package
"""
