// Recognises what was moved on one side, so that the other side only has to move it too: folders as a whole, then files
// and symlinks by identity, size and time, then files by content. Internal to the planner.
#pragma once

#include <capstan/sync/draft.h>

namespace capstan::sync {

// Puts MOVEs (and the new folders that they lead into) into Draft::moves, and changes the draft as if they had been
// carried out. What cannot be moved in one step, such as two names that were swapped, is left as it is: it will be sent
// or copied, and removed.
void recogniseMoves(Draft& draft);

}  // namespace capstan::sync
