// What is different between two nodes, as far as the synchroniser cares: stamps and identities do not matter, contents
// and metadata do. Internal to the planner.
#pragma once

#include <capstan/sync/node.h>

namespace capstan::sync {

enum class Change { NONE, METADATA, CONTENT };  // CONTENT: of a file or symlink; or another type, or nothing there

// What has really changed on one side since both agreed. A file with the size and time that were agreed has the content
// that was agreed, unless digests say otherwise, or the agreed stamp was too young to tell.
Change changeOf(const Node& now, const Agreed& agreed, Side side);
// `now` may be missing; without an agreement everything that is there is a change.
Change changeOf(const std::optional<Node>& now, const std::optional<Agreed>& agreed, Side side);

// Whether two nodes, of different sides, hold the same: type, and a symlink's target or a file's content. The latter by
// digest; where one is not known, by size and time, unless `checkContent`.
bool isSameContent(const Node& a, const Node& b, bool checkContent);

// Whether mode and (of files) mtime are in step. What a side could not take over when it was agreed (modes on a file
// system without them) is no difference.
bool isSameMetadata(const Node& local, const Node& remote, const std::optional<Agreed>& agreed);

// The digest that was agreed, from whichever side knows it; else empty.
const std::string& agreedDigest(const Agreed& agreed);

inline bool isFolder(const std::optional<Node>& node) { return node && node->type == EntryType::DIRECTORY; }

}  // namespace capstan::sync
