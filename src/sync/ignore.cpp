#include <capstan/sync/ignore.h>
