"""Updates: signed releases for boards, and roll-outs that bring them there in stages."""
