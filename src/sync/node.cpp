#include <capstan/sync/node.h>
