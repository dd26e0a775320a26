"""Who spoke when, and who it is: from a recording to turns with names, their files, and the diarization error."""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.diarization.clustering.ahc import SpeakerRange as SpeakerRange
    from xvectors.diarization.clustering.ahc import average_linkage as average_linkage
    from xvectors.diarization.clustering.speakers import ClusteringSettings as ClusteringSettings
    from xvectors.diarization.clustering.spectral import spectral_clustering as spectral_clustering
    from xvectors.diarization.clustering.vbx import VBxResult as VBxResult
    from xvectors.diarization.clustering.vbx import soft_assignment as soft_assignment
    from xvectors.diarization.diarizer import Diarization as Diarization
    from xvectors.diarization.diarizer import Diarizer as Diarizer
    from xvectors.diarization.naming.enrollment import EnrolledVoice as EnrolledVoice
    from xvectors.diarization.naming.enrollment import enroll_speakers as enroll_speakers
    from xvectors.diarization.naming.renaming import rename_speakers as rename_speakers
    from xvectors.diarization.scoring import DiarizationScores as DiarizationScores
    from xvectors.diarization.scoring import score_files as score_files
    from xvectors.diarization.simulation.conversation import ConversationStyle as ConversationStyle
    from xvectors.diarization.simulation.conversation import simulate_conversation as simulate_conversation
    from xvectors.diarization.simulation.corpus import Conversation as Conversation
    from xvectors.diarization.simulation.corpus import conversations as conversations
    from xvectors.diarization.simulation.corpus import write_conversations as write_conversations
    from xvectors.diarization.turn_files.formats import write_turns as write_turns
    from xvectors.diarization.turn_files.reading import read_turns as read_turns
    from xvectors.diarization.turn_files.rttm import read_rttm as read_rttm
    from xvectors.diarization.turn_files.rttm import read_uem as read_uem
    from xvectors.diarization.turn_files.rttm import write_rttm as write_rttm
    from xvectors.diarization.turns import Turn as Turn

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    diarizer="Diarization Diarizer",
    scoring="DiarizationScores score_files",
    turns="Turn",
    **{
        "clustering.ahc": "SpeakerRange average_linkage",
        "clustering.speakers": "ClusteringSettings",
        "clustering.spectral": "spectral_clustering",
        "clustering.vbx": "VBxResult soft_assignment",
        "naming.enrollment": "EnrolledVoice enroll_speakers",
        "naming.renaming": "rename_speakers",
        "simulation.conversation": "ConversationStyle simulate_conversation",
        "simulation.corpus": "Conversation conversations write_conversations",
        "turn_files.formats": "write_turns",
        "turn_files.reading": "read_turns",
        "turn_files.rttm": "read_rttm read_uem write_rttm",
    },
)
