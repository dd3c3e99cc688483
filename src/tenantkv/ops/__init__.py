"""Operations without I/O: generators that yield effects and are sent the replies."""
