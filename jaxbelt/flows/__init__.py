"""Flows: conservative, positive maps that advance f by dt. No physics in here."""

from jaxbelt.flows.advection import Advection
from jaxbelt.flows.base import Flow, flow
from jaxbelt.flows.diffusion import LineDiffusion
from jaxbelt.flows.reaction import Mixing, Reaction
from jaxbelt.flows.remap import Remap
from jaxbelt.flows.rotation import Rotation
from jaxbelt.flows.series import MixingSeries
from jaxbelt.flows.sheared import Sheared
from jaxbelt.flows.tensor import TensorDiffusion
from jaxbelt.flows.transport import Transport

__all__ = ["Advection", "Flow", "flow", "LineDiffusion", "Mixing", "MixingSeries", "Reaction", "Remap", "Rotation", "Sheared",
           "TensorDiffusion", "Transport"]
