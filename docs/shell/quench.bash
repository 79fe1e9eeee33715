# Completion of quench's command line for bash: commands, recipes, their parameters, figures, files.

# The options that a command's --help lists, as --name= (flags: --name).
_quench_options() {
  "$@" --help 2>/dev/null | awk '/^(scales:|claim)/ {exit} /^  (--)?[a-z]/ && $1 != "quench" {sub(/^--/, "", $1); print "--" $1 ($2 == "boolean" ? "" : "=")}'
}

_quench() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
  # bash takes --name=value apart at the sign; what is completed then is a file
  if [ "$word" = "=" ] || [ "${COMP_WORDS[COMP_CWORD - 1]}" = "=" ]; then COMPREPLY=($(compgen -f -- "${word#=}")); return; fi
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
