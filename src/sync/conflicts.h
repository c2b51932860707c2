// Two-way only: where both sides have changed the same thing to different things, the local one gives way to another
// name, under which both sides get it. Internal to the planner.
#pragma once

#include <capstan/sync/draft.h>

namespace capstan::sync {

// Puts MOVEs into Draft::moves, and changes the draft as if they had been carried out. Nothing is agreed at the new
// names: what is there is new.
void moveConflictsAside(Draft& draft);

}  // namespace capstan::sync
