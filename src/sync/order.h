// From decisions to operations, in an order in which each finds what it needs. Internal to the planner.
#pragma once

#include <capstan/sync/draft.h>

namespace capstan::sync {

// The moves, with the folders that they need; copies at the side; what is made, from the outside to the inside; what is
// removed, from the inside to the outside; the metadata of folders in which nobody may write. In each step but the first
// the local side comes first. What is in the way of something goes right before it.
void putInOrder(Draft& draft);

}  // namespace capstan::sync
