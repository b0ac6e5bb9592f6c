"""Image sets: what is shown to a model. Importing this does not import torch."""

from clipbias.data.coco import read_coco_captions
from clipbias.data.export import export_coco, export_fairface, export_vqa
from clipbias.data.fairface import read_fairface
from clipbias.data.files import check_images
from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.data.registry import list_readers, load, reader
from clipbias.data.table import read_table
from clipbias.data.vqa import read_vqa

__all__ = [
    "UNKNOWN", "ImageSet", "check_images", "export_coco", "export_fairface", "export_vqa", "list_readers",
    "load", "read_coco_captions", "read_fairface", "read_table", "read_vqa", "reader",
]  # fmt: skip
