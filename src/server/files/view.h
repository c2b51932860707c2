// What one capability sees of the served folder: the tree at and below the top of its Access, with paths relative to
// that. Everything that FileStores, and what is made from them, do with the folder goes this way; nothing else leads
// from them to the root, the committer or the trash. The owner's view of the whole folder costs nothing.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/server/access/access.h>
#include <capstan/server/files/change-journal.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/quota.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/modes.h>
#include <capstan/storage/root.h>
#include <capstan/storage/trash.h>

namespace capstan::server::files {

struct ListPage;     // listing.h
struct ListRequest;  // listing.h

// Immutable and thread-safe; shared by capabilities, the jobs that they began, and the mutations that they submitted.
// The folder must outlive it.
class View final : public std::enable_shared_from_this<View> {
 public:
  static std::shared_ptr<const View> of(FolderState& folder, Access& access);
  // The same tree for whoever holds no capability: the server itself.
  static std::shared_ptr<const View> of(FolderState& folder, std::string_view top);
  // `connection`: on whose account, and on whose loop, something is submitted; null: nothing is.
  View(FolderState& folder, std::shared_ptr<const Grant> grant, std::string_view top,
       ConnectionScope* connection = nullptr);
  KJ_DISALLOW_COPY(View);

  // The path of the tree from the served folder.
  const std::string& top() const { return scope.top; }
  const Root& root() const { return *tree; }
  Staging& staging() const;
  // That whoever has it may set.
  storage::ModeMask modes() const { return grant->isOwner() ? storage::ModeMask() : storage::ModeMask::ofOthers(); }
  Disk& disk() const;

  // Of a folder in the tree: the path that leads there without symlinks, by which it can be given to others. Errors:
  // notFound, notDirectory, invalidPath, denied. Blocks.
  Result<std::string> folderAt(std::string_view path) const;

  // A page of the tree. Blocks.
  Result<ListPage> list(const ListRequest& request) const;

  // What a change of the served folder means for those who watch `path` in this tree; nothing: it is none of theirs.
  std::optional<Change> see(Change change, const std::string& path) const;

  // The committer's, for mutations of this tree, whose paths are relative to it. They are carried out with this view's
  // root, unless the grant has ended before their turn comes, or they bring more than its quota lets in.
  Committer::Ticket takeTicket(const ConnectionScope& connection) const;
  kj::Promise<void> turnOf(const Committer::Ticket& ticket) const;
  bool hasPending(const ConnectionScope& connection) const;
  kj::Promise<Result<Entry>> submit(Committer::Ticket ticket, std::unique_ptr<Mutation> mutation,
                                    std::shared_ptr<Run> run = nullptr) const;
  kj::Promise<std::vector<Result<Entry>>> submitAll(Committer::Ticket ticket,
                                                    std::vector<std::unique_ptr<Mutation>> mutations,
                                                    std::shared_ptr<Run> run) const;

  // Why so many bytes more would be too many, as far as is known. Blocks, for long where it has to be measured anew.
  Status mayGrow(uint64_t bytes) const;

  // The trash's, for runs that were begun under this grant, or one that was made from it, and for nothing outside of
  // this tree. They block.
  Result<std::shared_ptr<Run>> begin(std::string id, std::string label, std::string client) const;
  // The run with this id, null for an empty one.
  Result<std::shared_ptr<Run>> runOf(const std::string& id, const std::string& client) const;
  Result<std::vector<RunInfo>> runs() const;
  Result<Trash::Page> listTrash(const std::string& run, const std::string& path, const std::string& cursor,
                                size_t max) const;
  Result<std::vector<std::unique_ptr<Mutation>>> undo(const std::string& run, std::shared_ptr<Run> under) const;
  Result<std::unique_ptr<Mutation>> restore(const std::string& run, const std::string& path,
                                            const std::string& to) const;
  Result<uint64_t> emptyTrash(uint64_t olderThan) const;

 private:
  FolderState& folder;
  ConnectionScope* const connection;  // there as long as somebody submits something; see the constructor
  const std::shared_ptr<const Grant> grant;
  const RunScope scope;
  const std::unique_ptr<Root> ownRoot;  // null: it is the served folder
  const Root* const tree;
  const std::vector<Quota> quotas;

  // Nothing is withheld from whoever has it: mutations are carried out as they are.
  bool isWhole() const { return grant->isOwner() && ownRoot == nullptr; }
  std::unique_ptr<Mutation> guarded(std::unique_ptr<Mutation> mutation) const;
  // Measures what the quotas need to be known of, if there are any.
  Status prepareQuotas(const std::vector<std::unique_ptr<Mutation>>& mutations) const;
};

}  // namespace capstan::server::files
