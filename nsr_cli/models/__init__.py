"""Networks: the paper's, those that it is compared with, their weights, and restoration tile by tile.

A network of one's own is any ``nn.Module`` from (B, C, H, W) in [0, 1] to (B, C, scale * H, scale * W). A YAML in
conf/model (or in ``--config-dir``) names its class. What else it may have:

    halo      pixels of the input that an output pixel sees in each direction; without it, it is given whole images
    enlarges  factor by which it enlarges its input before its convolutions; without it, 1
    tile      set here: side of the patches that it was trained on, which is that of the tiles of networks with gates
"""
