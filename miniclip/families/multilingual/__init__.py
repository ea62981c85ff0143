"""CLIPs of many languages as a family: CLIP's image tower, and a BERT or an XLM-RoBERTa for texts."""

from miniclip.families.bert_model import BertCLIP
from miniclip.families.clip import positions, preprocess
from miniclip.families.multilingual.config import MultilingualConfig
from miniclip.families.record import Family
from miniclip.tokenizers.cleaned import Cleaned
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.tokenizers.xlm_roberta import XLMRoberta

FAMILY = Family(
    config=MultilingualConfig,
    model=BertCLIP,
    preprocess=preprocess,
    tokenizer=WordPiece,
    with_image_size=positions.with_image_size,
    official_vocabulary=None,
    other_tokenizers=(XLMRoberta, Cleaned),
)
