"""Who spoke when, and who it is: from a recording to turns with names, their files, and the diarization error."""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.diarization.ahc import SpeakerRange as SpeakerRange
    from xvectors.diarization.ahc import average_linkage as average_linkage
    from xvectors.diarization.clustering import ClusteringSettings as ClusteringSettings
    from xvectors.diarization.diarizer import Diarization as Diarization
    from xvectors.diarization.diarizer import Diarizer as Diarizer
    from xvectors.diarization.enrollment import EnrolledVoice as EnrolledVoice
    from xvectors.diarization.enrollment import enroll_speakers as enroll_speakers
    from xvectors.diarization.formats import write_turns as write_turns
    from xvectors.diarization.renaming import rename_speakers as rename_speakers
    from xvectors.diarization.rttm import read_rttm as read_rttm
    from xvectors.diarization.rttm import read_uem as read_uem
    from xvectors.diarization.rttm import write_rttm as write_rttm
    from xvectors.diarization.scoring import DiarizationScores as DiarizationScores
    from xvectors.diarization.scoring import score_files as score_files
    from xvectors.diarization.simulated_corpus import Conversation as Conversation
    from xvectors.diarization.simulated_corpus import conversations as conversations
    from xvectors.diarization.simulated_corpus import write_conversations as write_conversations
    from xvectors.diarization.simulation import ConversationStyle as ConversationStyle
    from xvectors.diarization.simulation import simulate_conversation as simulate_conversation
    from xvectors.diarization.spectral import spectral_clustering as spectral_clustering
    from xvectors.diarization.turn_files import read_turns as read_turns
    from xvectors.diarization.turns import Turn as Turn
    from xvectors.diarization.vbx import VBxResult as VBxResult
    from xvectors.diarization.vbx import soft_assignment as soft_assignment

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    ahc="SpeakerRange average_linkage",
    clustering="ClusteringSettings",
    diarizer="Diarization Diarizer",
    enrollment="EnrolledVoice enroll_speakers",
    formats="write_turns",
    renaming="rename_speakers",
    rttm="read_rttm read_uem write_rttm",
    scoring="DiarizationScores score_files",
    simulated_corpus="Conversation conversations write_conversations",
    simulation="ConversationStyle simulate_conversation",
    spectral="spectral_clustering",
    turn_files="read_turns",
    turns="Turn",
    vbx="VBxResult soft_assignment",
)
