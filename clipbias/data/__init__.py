"""Image sets: what is shown to a model. Importing this does not import torch."""

from clipbias.data.aokvqa import read_aokvqa
from clipbias.data.celeba import read_celeba
from clipbias.data.coco import read_coco_captions
from clipbias.data.coco_people import read_coco_people
from clipbias.data.columnar import read_datasets
from clipbias.data.combine import combine
from clipbias.data.counterfactuals import read_pairs, read_social_counterfactuals
from clipbias.data.easy_vqa import read_easy_vqa
from clipbias.data.export import export_coco, export_fairface, export_vqa
from clipbias.data.facet import read_facet
from clipbias.data.fairface import read_fairface
from clipbias.data.files import check_images
from clipbias.data.flickr30k import read_flickr30k
from clipbias.data.gqa import read_gqa
from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.data.karpathy import read_karpathy
from clipbias.data.links import download
from clipbias.data.mmbias import read_mmbias
from clipbias.data.names import read_names
from clipbias.data.phase import read_phase
from clipbias.data.registry import list_readers, load, reader
from clipbias.data.shards import read_webdataset
from clipbias.data.table import read_table
from clipbias.data.utkface import read_utkface
from clipbias.data.visogender import read_visogender
from clipbias.data.visual_genome import read_visual_genome_qa
from clipbias.data.vqa import read_vqa

__all__ = [
    "UNKNOWN", "ImageSet", "check_images", "combine", "download", "export_coco", "export_fairface", "export_vqa",
    "list_readers", "load", "read_aokvqa", "read_celeba", "read_coco_captions", "read_coco_people", "read_datasets",
    "read_easy_vqa", "read_facet", "read_fairface", "read_flickr30k", "read_gqa", "read_karpathy", "read_mmbias", "read_names",
    "read_pairs", "read_phase", "read_social_counterfactuals", "read_table", "read_utkface", "read_visogender",
    "read_visual_genome_qa", "read_vqa", "read_webdataset", "reader",
]  # fmt: skip
