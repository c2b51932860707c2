// Finds what need not be sent, because the side that is to get it has the same content elsewhere. Internal to the
// planner.
#pragma once

#include <capstan/sync/draft.h>

namespace capstan::sync {

struct Copy {
  std::string path;
  std::string source;
  Node sourceNode;
};

// Whether the folders above a path are there, or can be made before anything is removed. Precondition: decide().
bool canBeMadeEarly(Draft& draft, const std::string& path, Side side);

// Files that are to be made or updated by COPY, in an order in which none finds its source overwritten by another. All
// of them can be made early. Precondition: decide().
std::vector<Copy> findCopies(Draft& draft);

}  // namespace capstan::sync
