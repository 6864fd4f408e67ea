"""A small EDVR, and the names of its tensors in other code bases."""

import torch

from workbench.models.zoo import build

SMALL = {"channels": 8, "groups": 2, "front_blocks": 1, "back_blocks": 2, "tail_channels": 8}


def edvr(**settings):
    """A small EDVR all of whose tensors differ from each other."""
    torch.manual_seed(0)
    network = build("edvr_m", **(SMALL | settings)).eval()
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
    return network


ORIGINAL = {
    "conv_l2_1": "fea_L2_conv1",
    "conv_l2_2": "fea_L2_conv2",
    "conv_l3_1": "fea_L3_conv1",
    "conv_l3_2": "fea_L3_conv2",
    **{f"pcd_align.offset_conv{i}.l{n}": f"pcd_align.L{n}_offset_conv{i}" for i in (1, 2, 3) for n in (1, 2, 3)},
    **{f"pcd_align.dcn_pack.l{n}.conv_offset": f"pcd_align.L{n}_dcnpack.conv_offset_mask" for n in (1, 2, 3)},
    **{f"pcd_align.dcn_pack.l{n}": f"pcd_align.L{n}_dcnpack" for n in (1, 2, 3)},
    "pcd_align.feat_conv.l1": "pcd_align.L1_fea_conv",
    "pcd_align.feat_conv.l2": "pcd_align.L2_fea_conv",
    "pcd_align.cas_dcnpack.conv_offset": "pcd_align.cas_dcnpack.conv_offset_mask",
    "fusion.temporal_attn1": "tsa_fusion.tAtt_2",
    "fusion.temporal_attn2": "tsa_fusion.tAtt_1",
    "fusion.feat_fusion": "tsa_fusion.fea_fusion",
    **{f"fusion.spatial_attn{i}": f"tsa_fusion.sAtt_{i}" for i in (1, 2, 3, 4, 5)},
    **{f"fusion.spatial_attn_l{i}": f"tsa_fusion.sAtt_L{i}" for i in (1, 2, 3)},
    **{f"fusion.spatial_attn_add{i}": f"tsa_fusion.sAtt_add_{i}" for i in (1, 2)},
    "fusion": "tsa_fusion",
    "reconstruction": "recon_trunk",
    "conv_hr": "HRconv",
    "predeblur.conv_first": "pre_deblur.conv_first",
    "predeblur.stride_conv_l2": "pre_deblur.deblur_L2_conv",
    "predeblur.stride_conv_l3": "pre_deblur.deblur_L3_conv",
    **{f"predeblur.resblock_l1.{i}": f"pre_deblur.RB_L1_{i + 1}" for i in range(5)},
    "predeblur.resblock_l2_1": "pre_deblur.RB_L2_1",
    "predeblur.resblock_l2_2": "pre_deblur.RB_L2_2",
    "predeblur.resblock_l3": "pre_deblur.RB_L3_1",
}


ORIGINAL_HR_IN = {
    "conv_first": "conv_first_1",
    "stride_conv_hr1": "conv_first_2",
    "stride_conv_hr2": "conv_first_3",
    "predeblur.conv_first": "pre_deblur.conv_first_1",
    "predeblur.stride_conv_hr1": "pre_deblur.conv_first_2",
    "predeblur.stride_conv_hr2": "pre_deblur.conv_first_3",
}


MMAGIC = {
    "conv_l2_1": "feat_l2_conv1.conv",
    "conv_l2_2": "feat_l2_conv2.conv",
    "conv_l3_1": "feat_l3_conv1.conv",
    "conv_l3_2": "feat_l3_conv2.conv",
    **{
        f"pcd_align.offset_conv{i}.l{n}": f"pcd_alignment.offset_conv{i}.l{n}.conv"
        for i in (1, 2, 3)
        for n in (1, 2, 3)
    },
    **{f"pcd_align.feat_conv.l{n}": f"pcd_alignment.feat_conv.l{n}.conv" for n in (1, 2)},
    **{f"pcd_align.cas_offset_conv{i}": f"pcd_alignment.cas_offset_conv{i}.conv" for i in (1, 2)},
    "pcd_align": "pcd_alignment",
    "fusion.feat_fusion": "fusion.feat_fusion.conv",
    **{f"fusion.spatial_attn{i}": f"fusion.spatial_attn{i}.conv" for i in (1, 2, 3, 4)},
    **{f"fusion.spatial_attn_l{i}": f"fusion.spatial_attn_l{i}.conv" for i in (1, 2, 3)},
    "fusion.spatial_attn_add1": "fusion.spatial_attn_add1.conv",
    "upconv1": "upsample1.upsample_conv",
    "upconv2": "upsample2.upsample_conv",
}


def renamed(network, names):
    """The state dict of a network under other names; the longest name that fits is taken."""
    theirs = {}
    for ours, tensor in network.state_dict().items():
        fits = [name for name in names if ours == name or ours.startswith(f"{name}.")]
        name = max(fits, key=len, default="")
        theirs[names.get(name, "") + ours.removeprefix(name)] = tensor
    assert len(theirs) == len(network.state_dict())
    return theirs


def assert_equal_networks(network, other):
    ours, theirs = network.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert network.recipe == other.recipe
