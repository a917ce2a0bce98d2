"""The names of all defects, and which records each can be planted in."""

from .conversation_defects import CONVERSATION_DEFECTS
from .copies import COPIES
from .picture_defects import PICTURE_DEFECTS

OTHER_QUESTIONS = "same_image_other_questions"  # an earlier record's very file under a new conversation
LEAK = "benchmark_leak"  # picture and question of an item of the benchmark

COPY_DEFECTS = (*COPIES, OTHER_QUESTIONS)
DEFECTS = (*PICTURE_DEFECTS, *COPY_DEFECTS, *CONVERSATION_DEFECTS, LEAK)
NEEDS_PICTURE = (*PICTURE_DEFECTS, LEAK)  # a record of one still picture
NEEDS_MEDIUM = ("marker_mismatch", "missing_file", "wrong_language")  # any picture or clip
