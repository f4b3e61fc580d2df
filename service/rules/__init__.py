"""What tracked people do, by rules that a stream or a camera chooses: angles, posture, falls, repetitions, speed."""
