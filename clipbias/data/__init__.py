"""Image sets: what is shown to a model. Importing this does not import torch."""

from clipbias.data.aokvqa import read_aokvqa
from clipbias.data.coco import read_coco_captions
from clipbias.data.combine import combine
from clipbias.data.easy_vqa import read_easy_vqa
from clipbias.data.export import export_coco, export_fairface, export_vqa
from clipbias.data.fairface import read_fairface
from clipbias.data.files import check_images
from clipbias.data.flickr30k import read_flickr30k
from clipbias.data.gqa import read_gqa
from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.data.karpathy import read_karpathy
from clipbias.data.registry import list_readers, load, reader
from clipbias.data.table import read_table
from clipbias.data.visual_genome import read_visual_genome_qa
from clipbias.data.vqa import read_vqa

__all__ = [
    "UNKNOWN", "ImageSet", "check_images", "combine", "export_coco", "export_fairface", "export_vqa", "list_readers",
    "load", "read_aokvqa", "read_coco_captions", "read_easy_vqa", "read_fairface", "read_flickr30k", "read_gqa",
    "read_karpathy", "read_table", "read_visual_genome_qa", "read_vqa", "reader",
]  # fmt: skip
