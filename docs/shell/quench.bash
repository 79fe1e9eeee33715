# Completion of quench's command line for bash: commands, recipes, their parameters, figures, files.

# The options that a command's --help lists, as --name= (flags: --name).
_quench_options() {
  "$@" --help 2>/dev/null | awk '/^(scales:|claim)/ {exit} /^  (--)?[a-z]/ && $1 != "quench" {sub(/^--/, "", $1); print "--" $1 ($2 == "boolean" ? "" : "=")}'
}

# The values that --help lists for an option: names of scales, choices. $1: the option without its dashes.
_quench_values() {
  local option=$1
  shift
  "$@" --help 2>/dev/null | awk -v option="$option" '/^[a-z]/ {part = $1}
    part == "scales:" && option == "scale" && /^  [a-z]/ {print $1}
    ($1 == option || $1 == "--" option) && match($0, /\[[^]]* \| [^]]*\]/) {
      s = substr($0, RSTART + 1, RLENGTH - 2); gsub(/ \| /, "\n", s); print s
    }'
}

_quench() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
  # bash takes --name=value apart at the sign
  local at=$COMP_CWORD
  if [ "$word" != "=" ]; then at=$((COMP_CWORD - 1)); fi
  if [ "${COMP_WORDS[at]}" = "=" ]; then
    local option=${COMP_WORDS[at - 1]#--} about=("${COMP_WORDS[0]}" "$command")
    if [ "$command" = run ]; then about+=("${COMP_WORDS[2]}"); fi
    COMPREPLY=($(compgen -W "$(_quench_values "$option" "${about[@]}")" -- "${word#=}"))
    if [ ${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=($(compgen -f -- "${word#=}")); fi
    return
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "run list new show replay watch replication quantize eval trajectory inspect help doctor --help --version --threads= --jit --trace -e -i" -- "$word") $(compgen -f -X '!*.lua' -- "$word"))
    return
  fi
  case $command in
    run)
      if [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "all $("${COMP_WORDS[0]}" list 2>/dev/null | awk '/^[a-z]/ {print $1}')" -- "$word") $(compgen -f -X '!*.lua' -- "$word"))
      else
        compopt -o nospace
        COMPREPLY=($(compgen -W "$(_quench_options "${COMP_WORDS[0]}" run "${COMP_WORDS[2]}")" -- "$word"))
        if [ "${COMP_WORDS[2]}" = all ]; then COMPREPLY+=($(compgen -f -X '!*.lua' -- "$word")); fi
      fi ;;
    replication | quantize | eval | trajectory)
      compopt -o nospace
      COMPREPLY=($(compgen -W "$(_quench_options "${COMP_WORDS[0]}" "$command")" -- "$word"))
      if [ "$command" != replication ]; then COMPREPLY+=($(compgen -f -- "$word")); fi ;;
    show | replay) COMPREPLY=($(compgen -f -X '!*.png' -- "$word")) ;;
    watch) COMPREPLY=($(compgen -W "--once" -- "$word") $(compgen -d -- "$word") $(compgen -f -X '!*.jsonl' -- "$word")) ;;
    help) COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" help 2>/dev/null | awk '/^  [a-z]/ {print $1}')" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}
complete -o filenames -F _quench quench
