//! Deliberate bugs, switched on in the simulator's glue: the proof that the oracles bite.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A read confirms as of its end.
    ConfirmAtEnd,
    /// A log that ends before what is known is believed.
    IgnoreKnown,
    /// A log that lacks what was seen of it is believed.
    IgnoreSeen,
    /// What a hint has said is not read again.
    BelieveHints,
    /// A hint moves the position over what is missing.
    AdvanceOverGap,
    /// A user's change evicts and raises nothing.
    EvictWithoutRaise,
    /// What was loaded is stamped with what is applied when it arrives.
    StampAfterLoad,
    /// A token rests on the highest of its parts' positions.
    HighestStamp,
    /// The end of a session raises nothing.
    DropSessionEnds,
    /// A replica starts late in the log without a horizon.
    StartWithoutHorizon,
    /// Another epoch begins and the floors do not know.
    EpochWithoutFloors,
    /// Another epoch begins and nobody is told.
    EpochUntold,
    /// A connection compares with the floors, and registers after.
    CompareBeforeRegister,
    /// Numbers that the log lacks are passed over.
    SkipMissing,
    /// A page that is cut short confirms.
    ConfirmWhenCut,
    /// Hints of any epoch are believed.
    HintOfAnyEpoch,
    /// What the tail shows is not told.
    TailUntold,
    /// That a tenant was folded is not told.
    FoldedUntold,
    /// Entries are marked as read now, fresh or not.
    RestampAll,
    /// The clock stands still while the process is stopped.
    ClockStopsAsleep,
    /// A role's entry and a token do not rest on its roles.
    ForgetRoles,
    /// A token does not rest on where its session was read.
    IgnoreSessionRead,
    /// A token is made of parts from two epochs.
    MixEpochs,
}

pub(crate) const ALL: &[Mutant] = &[
    Mutant::ConfirmAtEnd,
    Mutant::IgnoreKnown,
    Mutant::IgnoreSeen,
    Mutant::BelieveHints,
    Mutant::AdvanceOverGap,
    Mutant::EvictWithoutRaise,
    Mutant::StampAfterLoad,
    Mutant::HighestStamp,
    Mutant::DropSessionEnds,
    Mutant::StartWithoutHorizon,
    Mutant::EpochWithoutFloors,
    Mutant::EpochUntold,
    Mutant::CompareBeforeRegister,
    Mutant::SkipMissing,
    Mutant::ConfirmWhenCut,
    Mutant::HintOfAnyEpoch,
    Mutant::TailUntold,
    Mutant::FoldedUntold,
    Mutant::RestampAll,
    Mutant::ClockStopsAsleep,
    Mutant::ForgetRoles,
    Mutant::IgnoreSessionRead,
    Mutant::MixEpochs,
];
