#include <capstan/storage/tree.h>

namespace capstan::storage {

Result<std::unique_ptr<Tree>> Tree::open(TreeOptions options) {
  auto tree = std::make_unique<Tree>();
  auto root = Root::open(options.folder);
  if (!root.ok()) return root.error();
  tree->root = std::move(*root);
  tree->disk = std::make_unique<Disk>();
  auto staging = Staging::open(*tree->root, options.resumeTime);
  if (!staging.ok()) return staging.error();
  tree->staging = std::move(*staging);
  auto trash = Trash::open(*tree->root, *tree->staging, options.trash);
  if (!trash.ok()) return trash.error();
  tree->trash = std::move(*trash);
  tree->committer = std::make_unique<Committer>(*tree->root, *tree->staging, *tree->disk);
  return tree;
}

}  // namespace capstan::storage
