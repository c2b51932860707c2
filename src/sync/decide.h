// What is to be done with each path by itself, in each mode; then what folders have to do because of what is in them.
// Internal to the planner.
#pragma once

#include <capstan/sync/draft.h>

namespace capstan::sync {

// Sets Item::decision everywhere, and names in the plan what is withheld. Precondition: no conflicts are left.
void decide(Draft& draft);

}  // namespace capstan::sync
